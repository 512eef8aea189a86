//! `lockstep init-platform`: from nothing to a platform whose machines can
//! join. `wishes` is what was said, `questions` asks for the rest, `afterwards`
//! is what follows once the files are in place.

mod afterwards;
mod here;
mod own;
mod questions;
mod wishes;

use super::ask::ask;
use super::{environment, offline_actor, print, print_json, say, socket_address};
use crate::exit::{Done, Failed, failed};
use crate::shipped;
use crate::unit::{Running, Side};
use lockstep_leader::fault::Faults;
use lockstep_leader::founding::{Founding, Going, Here, Need, Site, Standing, Survey, platform_yml};
use lockstep_leader::platform::Setting;
use lockstep_leader::platform::schema::Proposal;
use lockstep_leader::source::{PLATFORM, Source, SourceFile};
use lockstep_leader::yaml::Node;
use serde_json::{Value, json};
use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use wishes::{Answers, Said, Wishes};

#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct Options {
    /// A role that machines will have; once for each machine that joins next (repeatable)
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// Where the leader listens for followers [default: 0.0.0.0:7000]
    #[arg(long, value_name = "IP:PORT", value_parser = socket_address)]
    listen: Option<SocketAddr>,
    /// How the other machines reach this one [default: its own addresses] (repeatable)
    #[arg(long = "address", value_name = "URL")]
    addresses: Vec<String>,
    /// A proxy with TLS stands in front, at this address; the leader then listens without TLS
    #[arg(long, value_name = "URL")]
    behind_proxy: Option<String>,
    /// A setting's value, as `lockstep settings set` takes it (repeatable) [env: `LOCKSTEP_SETTING_NAME`]
    #[arg(
        long,
        value_name = "NAME=VALUE",
        help = "A setting's value, as lockstep settings set takes it (repeatable) [env: LOCKSTEP_SETTING_NAME]"
    )]
    set: Vec<String>,
    /// A setting or secret from a file, or - for standard input (repeatable)
    #[arg(
        long,
        value_name = "NAME=FILE",
        help = "A setting or secret from a file, or - for standard input (repeatable) [env for secrets: LOCKSTEP_SECRET_NAME]"
    )]
    set_file: Vec<String>,
    /// A file with answers: roles, listen, addresses, behindProxy, settings, joinHere, name
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// The release, instead of the one in this program
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// This machine follows as well, in this role
    #[arg(long, value_name = "ROLE")]
    join_here: Option<String>,
    /// What this machine is called then [default: its host name]
    #[arg(long, value_name = "NAME", requires = "join_here")]
    name: Option<String>,
    /// This machine runs no containers: with --join-here
    #[arg(long, requires = "join_here")]
    no_docker: bool,
    /// Install and start no service
    #[arg(long)]
    no_service: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Don't ask: take what is proposed
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Settings with their values, in the order of the release.
type Values = Vec<(String, Node)>;

pub(super) fn run(root: &Path, options: &Options) -> Result<Done, Failed> {
    match Standing::look(root)? {
        Standing::Free => {}
        Standing::Platform => return afterwards::already(root, options.json),
        Standing::Begun(going) => {
            let was = "an earlier init-platform made the files of";
            if options.dry_run {
                say(&format!("{was} {}; the next one puts them in place", root.display()));
                return Ok(Done::Good);
            }
            say(&format!("{was} {} and was interrupted: going on from there", root.display()));
            let site = Site::open(root)?;
            site.settle()?;
            return afterwards::finish(root, site, &going, options.json);
        }
        Standing::Occupied(what) => return Err(lockstep_leader::founding::FoundingError::Occupied(what).into()),
    }
    let asks = !options.yes && !options.dry_run;
    if asks && !std::io::stdin().is_terminal() {
        return Err(failed(
            "there is no terminal to ask on, and nothing was made: say --yes to take what is proposed, --dry-run to see it (lockstep init-platform --help has the flags)",
        ));
    }
    let (templates, own_templates, whence) = release(root, options)?;
    let (wishes, values, survey) = told(options, &templates, asks)?;
    let offered: Vec<&str> = offered(&survey, &wishes, &values);
    let text = platform_yml(survey.settings(), &values, &offered, &release_of(&survey))?;
    let running = Running::of(Side::Leader, root, !options.no_service);
    running.refuse_other(root)?;
    let plan = plan(root, &wishes, &values, &survey, &running, own_templates, &whence);
    if options.dry_run {
        if options.json {
            print_json(&json!({"root": root, "new": false, "plan": plan, "platform": text}))?;
        } else {
            print(&format!("{}\n\n{PLATFORM} would be:\n\n{text}", plan.join("\n")))?;
            say("nothing was made: this was --dry-run");
        }
        return Ok(Done::Good);
    }
    say(&plan.join("\n"));
    if asks && !ask("Do this")? {
        return Err(failed("nothing was made"));
    }
    let mut source = templates;
    source.files.insert(PLATFORM.to_owned(), SourceFile::new(text.into_bytes(), false));
    let founding = Founding { source, own_templates, config: config(&wishes), secrets: wishes.held_secrets(&survey) };
    let going = Going {
        roles: wishes.roles.iter().map(ToString::to_string).collect(),
        service: !options.no_service,
        here: wishes.here.as_ref().map(|(role, name)| Here {
            role: role.to_string(),
            name: name.to_string(),
            docker: !options.no_docker,
        }),
    };
    let site = Site::open(root)?;
    // Somebody may have been faster, before it was held.
    if Standing::look(root)? != Standing::Free {
        return Err(failed(format!("{} isn't free any more: run the same command again", root.display())));
    }
    site.stage(&founding, &going, &offline_actor())?;
    site.settle()?;
    afterwards::finish(root, site, &going, options.json)
}

/// The release: its files, whether they are in their place already, and where they come from.
fn release(root: &Path, options: &Options) -> Result<(Source, bool, String), Failed> {
    let place = root.join("templates");
    let filled = std::fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_some());
    match &options.templates {
        Some(given) if filled => Err(failed(format!(
            "{} holds a release already, and --templates says {}: leave one of them out",
            place.display(),
            given.display()
        ))),
        Some(given) => Ok((Source::templates(given)?, false, format!("from {}", given.display()))),
        None if filled => Ok((Source::templates(&place)?, true, "there already, and used as it is".to_owned())),
        None => Ok((shipped::source()?, false, "from this program".to_owned())),
    }
}

/// What a person has to say, all of it: said already, proposed, or asked for.
fn told(options: &Options, templates: &Source, asks: bool) -> Result<(Wishes, Values, Survey), Failed> {
    let bare = Survey::new(templates, "settings: {}\n", &[], &[]);
    if bare.settings().by_name.is_empty() && !bare.faults.is_empty() {
        return Err(Faults(bare.faults).into());
    }
    let answers = options.answers.as_deref().map(Answers::read).transpose()?.unwrap_or_default();
    let own = own::addresses();
    let mut wishes = Wishes::gather(options, answers, &environment(), &own, &bare)?;
    if asks && wishes.wrong.is_empty() {
        questions::begin(options, &mut wishes, &bare)?;
    }
    let behind_proxy = wishes.behind_proxy;
    // Empty where nothing is known that could be proposed.
    let proposed = |setting: &Setting| match setting.propose {
        None => String::new(),
        Some(Proposal::BehindProxy) => behind_proxy.to_string(),
        Some(Proposal::Address) => {
            let v4 = own.iter().find(|ip| ip.is_ipv4());
            v4.or(own.first()).map_or_else(String::new, IpAddr::to_string)
        }
    };
    let proposal = |need: &Need, survey: &Survey| survey.setting(&need.name).map(proposed);
    for (name, setting) in &bare.settings().by_name {
        // A default that isn't right for this platform.
        let unsaid = !wishes.settings.contains_key(name) && setting.propose == Some(Proposal::BehindProxy);
        let default = setting.default.as_ref().and_then(Node::bool);
        if unsaid && default.is_some_and(|default| default != behind_proxy) {
            wishes.say(name, Said::Words(proposed(setting)), "what is proposed for", &bare);
        }
    }
    loop {
        let (values, mut wrong) = wishes.values(&bare);
        let survey = survey(templates, &bare, &wishes, &values)?;
        let mut open: Vec<&Need> = survey.needs.iter().collect();
        if asks && wishes.wrong.is_empty() && wrong.is_empty() && survey.faults.is_empty() && !open.is_empty() {
            for need in open {
                let Some(setting) = survey.setting(&need.name) else { continue };
                let proposed = proposal(need, &survey).filter(|proposed| !proposed.is_empty());
                questions::need(need, setting, proposed.as_deref(), &mut wishes, templates, &bare)?;
            }
            continue;
        }
        let before = wishes.settings.len();
        open.retain(|need| match proposal(need, &survey).filter(|proposed| !proposed.is_empty() && !need.secret) {
            None => true,
            Some(proposed) => {
                wishes.say(&need.name, Said::Words(proposed), "this machine's address as", &bare);
                false
            }
        });
        wrong.extend(wishes.wrong.iter().cloned());
        wrong.extend(wishes::lines(&Faults(survey.faults.clone()), &wishes));
        // What is wrong with a given secret shows where a machine would get it.
        let given = survey
            .doubts
            .iter()
            .filter(|fault| fault.setting.as_ref().is_some_and(|name| wishes.secrets.contains_key(name)));
        wrong.extend(given.map(|fault| fault.what.clone()));
        wrong.extend(open.iter().map(|need| missing(need, &survey)));
        if let Some(taken) = taken(wishes.listen).filter(|_| wishes.listen.port() != 0) {
            wrong.push(taken);
        }
        if !wrong.is_empty() {
            let all = wrong.join("\n  ");
            return Err(failed(format!(
                "nothing was made:\n  {all}\ncorrect this and run lockstep init-platform again"
            )));
        }
        if wishes.settings.len() == before {
            return Ok((wishes, values, survey));
        }
    }
}

/// The release under what was said so far. `bare`: the same with nothing said.
fn survey(templates: &Source, bare: &Survey, wishes: &Wishes, values: &[(String, Node)]) -> Result<Survey, Failed> {
    let text = platform_yml(bare.settings(), values, &[], "")?;
    Ok(Survey::new(templates, &text, &wishes.chosen(), &wishes.given_secrets()))
}

fn missing(need: &Need, survey: &Survey) -> String {
    let told = survey.setting(&need.name).map(|setting| setting.title.trim()).unwrap_or_default();
    if need.secret {
        return format!(
            "{} ({told}) is missing: a secret, so give it as LOCKSTEP_SECRET_{0} in the environment, or with --set-file {0}=FILE",
            need.name
        );
    }
    format!("{} ({told}) is missing: --set {0}=VALUE", need.name)
}

/// Whether somebody else has the address, in words.
fn taken(listen: SocketAddr) -> Option<String> {
    let error = TcpListener::bind(listen).err()?;
    let next = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("another program has the port: see ss -ltnp 'sport = :{}', or choose another one", listen.port())
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has that address: see ip address".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need root: choose another one".to_owned(),
        _ => "choose another address".to_owned(),
    };
    Some(format!("--listen {listen}: {error}; {next}"))
}

/// The release's version, where it is one that platform files can name.
fn release_of(survey: &Survey) -> String {
    let release = &survey.settings().release;
    if lockstep_leader::migration::is_release(release) { release.clone() } else { String::new() }
}

/// Optional settings of the chosen roles that have no value: worth a line in the file.
fn offered<'s>(survey: &'s Survey, wishes: &Wishes, values: &[(String, Node)]) -> Vec<&'s str> {
    let roles = wishes.chosen();
    let unset = survey.settings().by_name.iter().filter(|(name, setting)| {
        setting.optional
            && setting.default.is_none()
            && setting.secret.is_none()
            && values.iter().all(|(given, _)| given != *name)
    });
    unset.map(|(name, _)| name.as_str()).filter(|name| survey.uses(&roles, name)).collect()
}

/// `config-leader.json`.
fn config(wishes: &Wishes) -> Value {
    let mut http = json!({"ip": wishes.listen.ip(), "port": wishes.listen.port()});
    http[if wishes.behind_proxy { "behindProxy" } else { "tls" }] = true.into();
    json!({"http": http, "addresses": wishes.addresses})
}

/// What is going to be done, in lines.
fn plan(
    root: &Path,
    wishes: &Wishes,
    values: &[(String, Node)],
    survey: &Survey,
    running: &Running,
    own_templates: bool,
    whence: &str,
) -> Vec<String> {
    let shown = root.display();
    let user = rustix::process::geteuid().as_raw();
    let mut lines = vec![format!("A new platform in {shown}, owned by user {user}:")];
    let mut add = |what: &str, told: String| lines.push(format!("  {what:<40} {told}"));
    let said: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
    let said = if said.is_empty() { "no settings yet".to_owned() } else { format!("says {}", said.join(", ")) };
    add("platform.yml (0644)", said);
    let release = &survey.settings().release;
    let kept = if own_templates { "templates/" } else { "templates/ (0755, 0644)" };
    add(kept, format!("release {release}, {whence}").replace("release ,", "a release,"));
    let way = if wishes.behind_proxy { "without TLS, which the proxy has" } else { "with TLS" };
    add("config-leader/conf/ (0700, files 0600)", format!("the leader listens on {} {way}", wishes.listen));
    let secrets = match wishes.secrets.len() {
        0 => String::new(),
        n => format!(", {}", super::counted(n, "given secret")),
    };
    let keys = if wishes.behind_proxy { "" } else { ", the platform's own certificate authority" };
    add("state/ (0700)", format!("the store and its key{keys}{secrets}, revision 1"));
    lines.push(format!("Other machines reach it at {}", wishes.addresses.join(" ")));
    if wishes.addresses.iter().all(|address| address.contains("://127.") || address.contains("://[::1]")) {
        lines.push("  (that is this machine only: for others say --listen or --address)".to_owned());
    }
    lines.extend(running.plan());
    if let Some((role, name)) = &wishes.here {
        lines.push(format!("This machine follows as well: {name}, in the role {role}"));
    }
    for role in &wishes.roles {
        lines.push(format!("A join token for a machine of the role {role}"));
    }
    for doubt in &survey.doubts {
        lines.push(format!("Look at this before such a machine joins: {doubt}"));
    }
    lines
}
