//! This machine becomes a follower: with a token from the leader, which is
//! known by its CA before anything is sent.
//!
//! | file | does |
//! |---|---|
//! | `machine.rs` | what this machine is like: its name, its address towards the leader |
//! | `contact.rs` | asks the leader, and says in words why that failed |
//! | `home.rs` | the files of the home: what is there, what goes on after a crash, what is laid out |

mod contact;
mod home;
mod machine;

use crate::exit::{Failed, failed};
use contact::Answer;
use home::{Attempt, Home};
use lockstep_edge::tls::{Certificate, short};
use lockstep_shared::join::{JoinRequest, JoinToken, Joined, Pin};
use lockstep_shared::{Name, Sha256};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// Where a follower listens, unless said otherwise; or at the next port that is free, where this one isn't.
const PORT: u16 = 6000;
/// How many ports are tried.
const PORTS: u16 = 100;

/// Where Docker's engine listens.
const ENGINE: &str = "/var/run/docker.sock";

/// What is wanted of a join.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// The token.
    pub(crate) token: JoinToken,
    /// The role.
    pub(crate) role: Name,
    /// The name; the machine's own if none.
    pub(crate) name: Option<Name>,
    /// Where to listen for the leader's news; the address towards the leader, from port 6000 on, if nothing is said.
    pub(crate) listen: Listen,
    /// What templates see as `machine.addresses`; the address towards the leader if there are none.
    pub(crate) addresses: Vec<IpAddr>,
    /// What the follower writes below; `pryv` in the home if nothing is said.
    pub(crate) data_folder: Option<PathBuf>,
    /// Whether the machine has a container engine.
    pub(crate) docker: bool,
}

/// Where a follower hears news at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    /// On the address towards the leader.
    Usual,
    /// Here.
    At(SocketAddr),
    /// Nowhere: it only polls.
    Not,
}

/// What is going to be done.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The home.
    pub(crate) root: PathBuf,
    /// The name.
    pub(crate) name: Name,
    /// The role.
    pub(crate) role: Name,
    /// Where it will listen; loopback where it only polls.
    pub(crate) listen: SocketAddr,
    /// Where the leader will tell it of news.
    url: Option<String>,
    addresses: Vec<String>,
    wish: Wish,
}

/// A machine that is a follower.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Follower {
    /// Its name.
    pub(crate) name: Name,
    /// Its role; not known of one that had joined before and has applied nothing yet.
    pub(crate) role: Option<Name>,
    /// Its home.
    pub(crate) root: PathBuf,
    /// The leader.
    pub(crate) leader: String,
    /// The fingerprint of the leader's CA; none behind a proxy.
    pub(crate) fingerprint: Option<String>,
    /// The fingerprint of its key.
    pub(crate) key: String,
    /// Where it listens for news; none where it only polls.
    pub(crate) url: Option<String>,
    /// Whether it had joined before, and nothing was changed.
    pub(crate) before: bool,
    /// What the operator should know all the same.
    pub(crate) notes: Vec<String>,
}

/// The fingerprint of a key, as both ends show it.
fn key_fingerprint(text: &str) -> String {
    short(&Sha256::of(text.trim().as_bytes()))
}

/// Decides everything that can be decided without the leader. `None` where
/// there is nothing to do: this home has joined that leader under that name.
pub(crate) fn plan(root: &Path, wish: Wish) -> Result<Result<Plan, Follower>, Failed> {
    if let Some(there) = home::there(root)? {
        return home::same(root, &there, &wish).map(Err);
    }
    let name = match &wish.name {
        Some(name) => name.clone(),
        None => machine::name()?,
    };
    let local = machine::towards(&wish.token.addresses);
    let listen = match wish.listen {
        Listen::At(address) => address,
        Listen::Usual => first_free(SocketAddr::new(local.unwrap_or(IpAddr::from([127, 0, 0, 1])), PORT))?,
        // For who asks on the machine.
        Listen::Not => first_free(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), PORT))?,
    };
    // Before anything is used up: a token lets in once.
    if wish.listen != Listen::Not {
        free(listen)?;
    }
    let reached = if listen.ip().is_unspecified() { local } else { Some(listen.ip()) };
    let url = match (wish.listen, reached) {
        (Listen::Not, _) => None,
        (_, Some(ip)) => Some(url(ip, listen.port())),
        (_, None) => {
            return Err(failed(format!(
                "the leader can't be told where {listen} is: say an address of this machine (--listen IP:PORT), or --no-listen"
            )));
        }
    };
    let mut addresses: Vec<String> = wish.addresses.iter().map(ToString::to_string).collect();
    if addresses.is_empty() {
        addresses.extend(local.map(|ip| ip.to_string()));
    }
    Ok(Ok(Plan { root: root.to_owned(), name, role: wish.role.clone(), listen, url, addresses, wish }))
}

fn url(ip: IpAddr, port: u16) -> String {
    format!("https://{}", SocketAddr::new(ip, port))
}

/// This address, or the first with a later port that could be listened on. The error is the first one's.
fn first_free(wanted: SocketAddr) -> Result<SocketAddr, Failed> {
    let refused = match free(wanted) {
        Ok(()) => return Ok(wanted),
        Err(refused) => refused,
    };
    let later = (wanted.port() + 1..PORT + PORTS).map(|port| SocketAddr::new(wanted.ip(), port));
    later.into_iter().find(|address| free(*address).is_ok()).ok_or(refused)
}

/// Refuses an address that nobody could listen on.
fn free(listen: SocketAddr) -> Result<(), Failed> {
    if listen.port() == 0 {
        return Err(failed("--listen wants a port: the leader has to be told which"));
    }
    TcpListener::bind(listen).map(drop).map_err(|error| {
        let next = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("another program has the port (ss -ltnp 'sport = :{}'): say another with --listen IP:PORT, or --no-listen", listen.port())
            }
            std::io::ErrorKind::AddrNotAvailable => {
                "no interface of this machine has that address (ip address): say --listen IP:PORT, or --no-listen".to_owned()
            }
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need root: say another with --listen IP:PORT".to_owned(),
            _ => "say another with --listen IP:PORT, or --no-listen".to_owned(),
        };
        failed(format!("{listen} can't be listened on ({error}), and nothing was done: {next}"))
    })
}

impl Plan {
    /// What is going to be done, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let home = Home::new(&self.root);
        let mut lines = vec![format!("Join as {}, with the role {}", self.name, self.role)];
        lines.push(match self.wish.token.pin {
            Pin::Authority(hash) => format!(
                "The leader at {}, which has to show the fingerprint {}",
                self.wish.token.addresses.join(" or "),
                short(&hash)
            ),
            Pin::Proxy => format!(
                "The leader at {}, behind a proxy whose certificate this system trusts",
                self.wish.token.addresses.join(" or ")
            ),
        });
        lines.push(match &self.url {
            Some(url) => format!("It is told of news at {url}: the leader has to get through to there"),
            None => "It only asks the leader for news, and is not told".to_owned(),
        });
        if self.wish.docker && !Path::new(ENGINE).exists() {
            lines.push(format!(
                "Look at this: there is no {ENGINE}. Install Docker, or say --no-docker for a machine without containers"
            ));
        }
        lines.extend(
            home.files(self.wish.token.pin).map(|(path, mode)| format!("write {} (0{mode:o})", path.display())),
        );
        lines
    }

    /// Joins, and lays the home out. What was begun by an earlier one, which
    /// was killed, is gone on with.
    pub(crate) async fn join(&self) -> Result<Follower, Failed> {
        let home = Home::new(&self.root);
        let token = &self.wish.token;
        let attempt = Attempt::of(&home, token, &self.name, &self.role)?;
        let mut at = self.clone();
        let (joined, from) = loop {
            let request = JoinRequest {
                id: token.id.to_string(),
                secret: contact::secret(token),
                name: self.name.clone(),
                role: self.role.clone(),
                csr: attempt.csr.clone(),
                url: at.url.clone(),
                addresses: self.addresses.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            };
            match contact::ask(token, &request).await? {
                Answer::Joined(joined, from) => break (*joined, from),
                // A follower beside this one, which doesn't run just now.
                Answer::UrlTaken(why) => at = at.beside().ok_or_else(|| failed(why))?,
            }
        };
        self.check(&joined)?;
        home.lay_out(&at, &joined, &from.address, &attempt)?;
        let addresses = home::in_order(&joined, &from.address);
        Ok(Follower {
            name: joined.name.clone(),
            role: Some(joined.role.clone()),
            root: self.root.clone(),
            leader: addresses.first().cloned().unwrap_or_default(),
            fingerprint: fingerprint(token.pin),
            key: key_fingerprint(&joined.key),
            url: at.url,
            before: false,
            notes: from.notes,
        })
    }

    /// The same at the next port, where which one was left open.
    fn beside(&self) -> Option<Self> {
        let next = SocketAddr::new(self.listen.ip(), self.listen.port() + 1);
        let usual = self.wish.listen == Listen::Usual && next.port() < PORT + PORTS;
        let listen = usual.then(|| first_free(next).ok()).flatten()?;
        Some(Self { listen, url: Some(url(listen.ip(), listen.port())), ..self.clone() })
    }

    /// Refuses an answer that isn't what was asked for, before anything is written.
    fn check(&self, joined: &Joined) -> Result<(), Failed> {
        let wrong = |what: &str| {
            Err(failed(format!(
                "the leader's answer can't be used, and nothing was written: {what}; are both machines of one version (lockstep --version)?"
            )))
        };
        if joined.name != self.name || joined.role != self.role {
            return wrong("it is for another machine or role");
        }
        if lockstep_shared::Key::parse(&joined.key).is_err() {
            return wrong("it holds no key");
        }
        if joined.certificate.is_empty() || Certificate::read_all(&joined.certificate).is_err() {
            return wrong("it holds no certificate");
        }
        if let Pin::Authority(hash) = self.wish.token.pin {
            // Behind a proxy the system's roots are gone by, and these are for this follower's own listener.
            let pinned = lockstep_edge::tls::authorities(&joined.authorities.concat()).unwrap_or_default();
            if !pinned.iter().any(|authority| authority.fingerprint == hash) {
                return wrong("the CA of the token is not among those that it tells");
            }
        }
        Ok(())
    }
}

fn fingerprint(pin: Pin) -> Option<String> {
    match pin {
        Pin::Authority(hash) => Some(short(&hash)),
        Pin::Proxy => None,
    }
}
