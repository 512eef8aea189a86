//! The server's side.

use super::{ALPN, Identity, provider};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Opens TLS on accepted connections, with the certificate there is at that moment.
pub struct Acceptor {
    tls: TlsAcceptor,
    shown: Arc<Shown>,
}

struct Shown(ArcSwap<CertifiedKey>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown")
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Acceptor {
    /// Shows `identity` until it is replaced. Sessions are not resumed: a
    /// client proves every connection by what it pins at that moment.
    pub fn new(identity: &Identity) -> Result<Self, rustls::Error> {
        let shown = Arc::new(Shown(ArcSwap::new(identity.certified())));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { tls: TlsAcceptor::from(Arc::new(config)), shown })
    }

    /// Shows another certificate from the next handshake on; open connections go on.
    pub fn replace(&self, identity: &Identity) {
        self.shown.0.store(identity.certified());
    }

    /// Opens TLS on a connection.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.tls.accept(stream).await
    }
}
