//! Numbers for whoever watches: counters that are cheap to add to, and the one
//! place that spells them, in Prometheus' text format 0.0.4. What is a label
//! here comes from a bounded set; no setting's or secret's value ever is one.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The media type of a [`Page`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The upper bounds of what requests take, in seconds.
const REQUEST_BOUNDS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];

/// A page of metrics, family by family.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// A page that tells of this process already: its version, memory, files and start.
    pub fn of_process(version: &str, started: i64) -> Self {
        let mut page = Self::default();
        page.gauge("lockstep_build_info", "The version that runs; always 1.").sample(&[("version", version)], 1);
        page.gauge("process_start_time_seconds", "When the process began, Unix seconds.").value(started);
        let process = Process::look();
        if let Some(bytes) = process.resident {
            page.gauge("process_resident_memory_bytes", "Memory of the process that is in RAM.").value(bytes);
        }
        if let Some(files) = process.files {
            page.gauge("process_open_fds", "Files and connections that the process holds open.").value(files);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        if let Some(limit) = limit {
            page.gauge("process_max_fds", "How many it may hold open.").value(limit);
        }
        page.counter("process_cpu_seconds_total", "Processor time of the process.").value(process.cpu.as_secs_f64());
        page
    }

    /// A family of values that go up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// A family of values that only grow; the name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// A family of histograms.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { page: &mut self.0, name }
    }

    /// Requests by method, route and status, and what they took.
    pub fn requests(&mut self, requests: &Requests) {
        let routes = requests.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut family = self.counter("lockstep_http_requests_total", "Requests answered since the start.");
        for (method, route, seen) in each(&routes) {
            for (status, count) in &seen.statuses {
                family.sample(&[("method", method), ("route", route), ("status", &status.to_string())], count);
            }
        }
        let mut family = self.histogram(
            "lockstep_http_request_duration_seconds",
            "From a request's header to its answer, on purpose held ones apart.",
        );
        for (method, route, seen) in each(&routes) {
            family.spread(&[("method", method), ("route", route)], &seen.took);
        }
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// Samples of one name.
pub struct Family<'p> {
    page: &'p mut String,
    name: &'static str,
}

impl Family<'_> {
    /// The one value of a family without labels.
    pub fn value(&mut self, value: impl Display) {
        self.sample(&[], value);
    }

    /// A value under these labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.line("", labels, None, value);
        self
    }

    /// A histogram under these labels.
    pub fn spread(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut below = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            below += count.load(Ordering::Relaxed);
            self.line("_bucket", labels, Some(&bound.to_string()), below);
        }
        below += histogram.beyond.load(Ordering::Relaxed);
        self.line("_bucket", labels, Some("+Inf"), below);
        let sum = Duration::from_micros(histogram.micros.load(Ordering::Relaxed));
        self.line("_sum", labels, None, sum.as_secs_f64());
        self.line("_count", labels, None, below);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: impl Display) {
        let _ = write!(self.page, "{}{suffix}", self.name);
        let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        for (index, (name, text)) in all.enumerate() {
            self.page.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.page, "{name}=\"");
            for c in text.chars() {
                match c {
                    '\\' => self.page.push_str("\\\\"),
                    '"' => self.page.push_str("\\\""),
                    '\n' => self.page.push_str("\\n"),
                    c => self.page.push(c),
                }
            }
            self.page.push('"');
        }
        if !labels.is_empty() || bound.is_some() {
            self.page.push('}');
        }
        let _ = writeln!(self.page, " {value}");
    }
}

/// Counts by a word of a bounded set.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    /// One more of this.
    pub fn count(&self, word: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                counts.insert(word.to_owned(), 1);
            }
        }
    }

    /// How many of each: of those of `always` in any case, so that nothing begins to exist by being counted.
    pub fn counts(&self, always: &[&str]) -> BTreeMap<String, u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for word in always {
            counts.entry((*word).to_owned()).or_default();
        }
        counts
    }
}

/// How often something took how long.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    beyond: AtomicU64,
    micros: AtomicU64,
}

impl Histogram {
    /// With these upper bounds, in seconds, growing.
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = bounds.iter().map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, beyond: AtomicU64::new(0), micros: AtomicU64::new(0) }
    }

    /// Once more.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.iter().position(|bound| seconds <= *bound);
        bucket.map_or(&self.beyond, |bucket| &self.counts[bucket]).fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Requests that were answered, by method and route: patterns such as
/// `/admin/secrets/{name}`, never addresses as they came.
#[derive(Debug, Default)]
pub struct Requests(Mutex<Routes>);

type Routes = BTreeMap<&'static str, BTreeMap<String, Seen>>;

#[derive(Debug)]
struct Seen {
    statuses: BTreeMap<u16, u64>,
    took: Histogram,
}

fn each(routes: &Routes) -> impl Iterator<Item = (&'static str, &str, &Seen)> {
    routes.iter().flat_map(|(method, routes)| routes.iter().map(|(route, seen)| (*method, route.as_str(), seen)))
}

impl Requests {
    /// One was answered.
    pub fn count(&self, method: &http::Method, route: &str, status: http::StatusCode, took: Duration) {
        let mut routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = routes.entry(word(method)).or_default();
        if !routes.contains_key(route) {
            let seen = Seen { statuses: BTreeMap::new(), took: Histogram::new(REQUEST_BOUNDS) };
            routes.insert(route.to_owned(), seen);
        }
        let Some(seen) = routes.get_mut(route) else { return };
        *seen.statuses.entry(status.as_u16()).or_default() += 1;
        seen.took.observe(took);
    }
}

/// Whatever a client calls its method, the labels stay few.
fn word(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

/// What the kernel says of this process (`proc(5)`).
struct Process {
    /// Bytes.
    resident: Option<u64>,
    files: Option<usize>,
    cpu: Duration,
}

impl Process {
    fn look() -> Self {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: Option<u64> = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        // The one that reads is open as well.
        let files = std::fs::read_dir("/proc/self/fd").map(|files| files.count().saturating_sub(1)).ok();
        let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = Duration::new(u64::try_from(clock.tv_sec).unwrap_or(0), u32::try_from(clock.tv_nsec).unwrap_or(0));
        Self { resident: pages.map(|pages| pages * rustix::param::page_size() as u64), files, cpu }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_histograms_add_up() {
        let mut page = Page::default();
        page.gauge("a", "A.").sample(&[("x", "b\\\"\nc"), ("y", "")], 1.5).sample(&[], 2);
        let took = Histogram::new(&[0.1, 1.0]);
        for millis in [50, 100, 700, 5000] {
            took.observe(Duration::from_millis(millis));
        }
        page.histogram("t", "T.").spread(&[("r", "x")], &took);
        let expected = "# HELP a A.\n# TYPE a gauge\na{x=\"b\\\\\\\"\\nc\",y=\"\"} 1.5\na 2\n\
            # HELP t T.\n# TYPE t histogram\nt_bucket{r=\"x\",le=\"0.1\"} 2\nt_bucket{r=\"x\",le=\"1\"} 3\n\
            t_bucket{r=\"x\",le=\"+Inf\"} 4\nt_sum{r=\"x\"} 5.85\nt_count{r=\"x\"} 4\n";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn a_process_knows_itself() {
        let text = Page::of_process("1.0.0", 5).into_text();
        for name in ["lockstep_build_info{version=\"1.0.0\"} 1", "process_start_time_seconds 5", "process_open_fds "] {
            assert!(text.contains(name), "{text}");
        }
        let resident = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes ")).unwrap();
        assert!(resident.parse::<u64>().unwrap() > 1_000_000, "{resident}");
    }

    #[test]
    fn strange_methods_make_no_labels() {
        let requests = Requests::default();
        for method in ["BREW", "COFFEE"] {
            let method = http::Method::from_bytes(method.as_bytes()).unwrap();
            requests.count(&method, "/x", http::StatusCode::OK, Duration::ZERO);
        }
        let mut page = Page::default();
        page.requests(&requests);
        assert!(page.into_text().contains("{method=\"other\",route=\"/x\",status=\"200\"} 2"));
    }
}
