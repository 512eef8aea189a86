//! Runs a follower: `run ROOT`.
use std::io::Write as _;
fn main() {
    let root = std::env::args_os().nth(1).unwrap_or_default();
    let filter = tracing_subscriber::EnvFilter::try_from_env("LOCKSTEP_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(lockstep_follower::run(
        root.into(),
        |address| {
            println!("ready http://{address}");
            let _ = std::io::stdout().flush();
        },
        async {
            let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
            term.recv().await;
        },
    ));
    if let Err(error) = ended {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
