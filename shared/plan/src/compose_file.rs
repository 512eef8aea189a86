//! What the plan has to know of a compose file: its services, what each is
//! defined by, and which files and services each depends on. Pure. Compose
//! itself stays the authority on what a definition means.

use lockstep_shared::Sha256;
use saphyr_parser::{Event, Parser, ScanError};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::rc::Rc;

/// A compose file, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ComposeFile {
    /// Its services by name.
    pub services: BTreeMap<String, Service>,
}

/// One service of a compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Over its definition and the top-level networks, volumes, configs and
    /// secrets it uses: another value means another container.
    pub definition: Sha256,
    /// `env_file` entries as they are written.
    pub env_files: Vec<String>,
    /// Services it needs: `depends_on`, `links`, shared namespaces and volumes.
    pub depends_on: BTreeSet<String>,
    /// Whether it belongs to a profile, and so is not created by a plain `up`.
    pub profiled: bool,
    /// The sources of its mounts as they are written: the names of volumes are among them.
    pub volumes: BTreeSet<String>,
    /// Its image as it is written, variables and all.
    pub image: Option<String>,
}

/// Why a compose file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum BadCompose {
    /// Not UTF-8.
    #[error("it is not UTF-8 text")]
    Text,
    /// Not YAML.
    #[error("line {line}, column {column}: {why}")]
    Yaml {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// The parser's words.
        why: String,
    },
    /// Deeper than any compose file.
    #[error("line {0}: it is nested more than {MOST_DEPTH} levels deep")]
    Deep(usize),
}

const MOST_DEPTH: usize = 64;

/// Reads a compose file.
pub fn read(bytes: &[u8]) -> Result<ComposeFile, BadCompose> {
    let text = std::str::from_utf8(bytes).map_err(|_| BadCompose::Text)?;
    let Some(root) = parse(text)? else { return Ok(ComposeFile::default()) };
    let mut services = BTreeMap::new();
    if let Some(listed) = root.get("services") {
        for (name, service) in listed.entries() {
            services.insert(name.clone(), read_service(&root, &service));
        }
    }
    Ok(ComposeFile { services })
}

fn read_service(root: &Node, service: &Node) -> Service {
    let mut form = service.hash.to_string();
    let mut networks = service.names("networks");
    networks.insert("default".to_owned());
    let uses = [
        ("networks", networks),
        ("volumes", service.sources("volumes")),
        ("configs", service.sources("configs")),
        ("secrets", service.sources("secrets")),
    ];
    for (section, names) in &uses {
        for name in names {
            if let Some(entry) = root.get(section).and_then(|section| section.get(name)) {
                let _ = write!(form, " {section} {name} {}", entry.hash);
            }
        }
    }
    let mut depends_on = service.names("depends_on");
    depends_on.extend(
        service.scalars("links").into_iter().chain(service.scalars("volumes_from")).map(|link| before_colon(&link)),
    );
    for shared in ["network_mode", "ipc", "pid"] {
        let named =
            service.scalars(shared).into_iter().filter_map(|mode| mode.strip_prefix("service:").map(str::to_owned));
        depends_on.extend(named);
    }
    Service {
        definition: Sha256::of(form.as_bytes()),
        env_files: service.env_files(),
        depends_on,
        profiled: !service.scalars("profiles").is_empty(),
        volumes: service.sources("volumes"),
        image: service.scalars("image").pop(),
    }
}

fn before_colon(text: &str) -> String {
    text.split(':').next().unwrap_or(text).to_owned()
}

/// A YAML node. Its hash stands for its whole subtree, so an alias costs
/// nothing however often it is used.
#[derive(Debug)]
struct Node {
    hash: Sha256,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Scalar(String),
    List(Vec<Rc<Node>>),
    Map(Vec<(Rc<Node>, Rc<Node>)>),
}

impl Node {
    fn scalar(text: String, plain: bool) -> Self {
        // `1` and `"1"` are different values to compose.
        let hash = Sha256::of(format!("{} {text}", if plain { "plain" } else { "text" }).as_bytes());
        Self { hash, kind: Kind::Scalar(text) }
    }

    fn list(items: Vec<Rc<Self>>) -> Self {
        let form = items.iter().fold("list".to_owned(), |form, item| form + " " + &item.hash.to_string());
        Self { hash: Sha256::of(form.as_bytes()), kind: Kind::List(items) }
    }

    fn map(entries: Vec<(Rc<Self>, Rc<Self>)>) -> Self {
        // The order of a map's keys means nothing.
        let mut lines: Vec<String> =
            entries.iter().map(|(key, value)| format!("{}:{}", key.hash, value.hash)).collect();
        lines.sort();
        Self { hash: Sha256::of(format!("map {}", lines.join(" ")).as_bytes()), kind: Kind::Map(entries) }
    }

    fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// A map's entries with text keys, `<<` merged in under its own entries.
    fn entries(&self) -> BTreeMap<String, Rc<Self>> {
        let mut found = BTreeMap::new();
        self.gather(&mut found, 0);
        found
    }

    fn gather(&self, found: &mut BTreeMap<String, Rc<Self>>, depth: usize) {
        if depth > 8 {
            return;
        }
        match &self.kind {
            Kind::Map(entries) => {
                for (key, value) in entries {
                    if let Some(key) = key.text().filter(|key| *key != "<<") {
                        found.entry(key.to_owned()).or_insert_with(|| value.clone());
                    }
                }
                for (key, value) in entries {
                    if key.text() == Some("<<") {
                        value.gather(found, depth + 1);
                    }
                }
            }
            Kind::List(items) if depth > 0 => items.iter().for_each(|item| item.gather(found, depth + 1)),
            _ => {}
        }
    }

    fn get(&self, key: &str) -> Option<Rc<Self>> {
        self.entries().remove(key)
    }

    /// The texts of a string or a list of strings under `key`.
    fn scalars(&self, key: &str) -> Vec<String> {
        match self.get(key).as_deref() {
            Some(Self { kind: Kind::Scalar(text), .. }) => vec![text.clone()],
            Some(Self { kind: Kind::List(items), .. }) => {
                items.iter().filter_map(|item| item.text().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The names in a list of strings, or the keys of a map, under `key`.
    fn names(&self, key: &str) -> BTreeSet<String> {
        let keys = self.get(key).map(|node| node.entries().into_keys().collect::<Vec<_>>()).unwrap_or_default();
        keys.into_iter().chain(self.scalars(key)).collect()
    }

    /// What a list of mounts under `key` names as sources, in both notations.
    fn sources(&self, key: &str) -> BTreeSet<String> {
        let short = self.scalars(key).into_iter().map(|text| before_colon(&text));
        let long = match self.get(key).as_deref() {
            Some(Self { kind: Kind::List(items), .. }) => {
                items.iter().filter_map(|item| item.get("source")?.text().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        };
        short.chain(long).collect()
    }

    /// `env_file`: a string, a list of strings, or of maps with a `path`.
    fn env_files(&self) -> Vec<String> {
        let mut files = self.scalars("env_file");
        if let Some(Self { kind: Kind::List(items), .. }) = self.get("env_file").as_deref() {
            files.extend(items.iter().filter_map(|item| item.get("path")?.text().map(str::to_owned)));
        }
        files
    }
}

/// A collection that is still open: its anchor, whether it is a map, its children.
struct Open {
    anchor: usize,
    is_map: bool,
    children: Vec<Rc<Node>>,
}

fn parse(text: &str) -> Result<Option<Rc<Node>>, BadCompose> {
    let mut parser = Parser::new_from_str(text);
    let mut anchors: HashMap<usize, Rc<Node>> = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| bad_yaml(&error))?;
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, _) => {
                (anchor, Rc::new(Node::scalar(text.into_owned(), style == saphyr_parser::ScalarStyle::Plain)))
            }
            Event::Alias(anchor) => match anchors.get(&anchor) {
                Some(node) => (0, node.clone()),
                None => continue,
            },
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) if open.len() >= MOST_DEPTH => {
                let _ = anchor;
                return Err(BadCompose::Deep(span.start.line()));
            }
            Event::SequenceStart(anchor, _) => {
                open.push(Open { anchor, is_map: false, children: Vec::new() });
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open { anchor, is_map: true, children: Vec::new() });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(closed) => (closed.anchor, Rc::new(closed.close())),
                None => continue,
            },
            Event::DocumentEnd => break,
            _ => continue,
        };
        if anchor > 0 {
            anchors.insert(anchor, node.clone());
        }
        match open.last_mut() {
            Some(parent) => parent.children.push(node),
            None => root = Some(node),
        }
    }
    Ok(root)
}

impl Open {
    fn close(self) -> Node {
        if !self.is_map {
            return Node::list(self.children);
        }
        let mut children = self.children.into_iter();
        let mut entries = Vec::new();
        while let (Some(key), Some(value)) = (children.next(), children.next()) {
            entries.push((key, value));
        }
        Node::map(entries)
    }
}

fn bad_yaml(error: &ScanError) -> BadCompose {
    let marker = error.marker();
    BadCompose::Yaml { line: marker.line(), column: marker.col() + 1, why: error.info().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compose(text: &str) -> ComposeFile {
        read(text.as_bytes()).unwrap()
    }

    #[test]
    fn reads_services_their_files_and_dependencies() {
        let file = compose(
            "x-common: &common\n  env_file: common.env\n  depends_on: [db]\nservices:\n  web:\n    <<: *common\n    links: ['mail:m']\n  \
             job:\n    env_file: [a.env, {path: b.env}]\n    depends_on: {web: {condition: service_started}}\n    profiles: [tools]\n  \
             side:\n    network_mode: 'service:web'\n",
        );
        let names = |service: &str| file.services[service].depends_on.iter().cloned().collect::<Vec<_>>();
        assert_eq!(file.services["web"].env_files, ["common.env"]);
        assert_eq!(names("web"), ["db", "mail"]);
        assert_eq!(file.services["job"].env_files, ["a.env", "b.env"]);
        assert_eq!((names("job"), names("side")), (vec!["web".to_owned()], vec!["web".to_owned()]));
        assert!(file.services["job"].profiled && !file.services["web"].profiled);
    }

    #[test]
    fn a_definition_is_its_meaning_not_its_spelling() {
        let one = compose(
            "services:\n  a: {image: x, command: [\"1\"]}\n  b: {image: y, networks: [n]}\nnetworks: {n: {}}\n",
        );
        let two = compose(
            "# comment\nservices:\n  b:\n    networks: [n]\n    image: y\n  a: {command: ['1'], image: x}\nnetworks: {n: {}}\n",
        );
        assert_eq!(one, two);
        let other = compose(
            "services:\n  a: {image: x, command: [1]}\n  b: {image: y, networks: [n]}\nnetworks: {n: {internal: true}}\n",
        );
        assert_ne!(one.services["a"].definition, other.services["a"].definition);
        assert_ne!(one.services["b"].definition, other.services["b"].definition);
    }

    #[test]
    fn a_default_network_belongs_to_all_and_a_named_volume_to_its_users() {
        let text = |driver: &str, volume: &str| {
            format!(
                "services:\n  a: {{volumes: ['v:/x']}}\n  b: {{}}\nnetworks: {{default: {{driver: {driver}}}}}\nvolumes: {{v: {{name: {volume}}}}}\n"
            )
        };
        let one = compose(&text("bridge", "v1"));
        let net = compose(&text("overlay", "v1"));
        let vol = compose(&text("bridge", "v2"));
        assert_ne!(one.services["b"], net.services["b"]);
        assert_eq!(one.services["b"], vol.services["b"]);
        assert_ne!(one.services["a"], vol.services["a"]);
    }

    #[test]
    fn says_where_it_is_broken_and_stands_alias_bombs() {
        assert!(matches!(read(b"services: [\n").unwrap_err(), BadCompose::Yaml { .. }));
        assert!(matches!(read(&[0xff]).unwrap_err(), BadCompose::Text));
        assert!(matches!(read("[".repeat(100).as_bytes()).unwrap_err(), BadCompose::Deep(1)));
        let mut bomb = "a0: &a0 [x]\n".to_owned();
        for level in 1..60 {
            bomb += &format!("a{level}: &a{level} [*a{0},*a{0},*a{0},*a{0}]\n", level - 1);
        }
        assert_eq!(compose(&bomb), ComposeFile::default());
        assert_eq!(compose(""), ComposeFile::default());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~\n]{0,200}") {
            let _ = read(text.as_bytes());
        }
    }
}
