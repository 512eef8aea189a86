//! What a process that holds secrets does first: leaves no core file, lets no
//! other process of its user look into its memory, and says of a panic where
//! it was, but not what stood there.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use std::io::Write as _;
use std::panic;

/// To be called before anything secret is read. Where the system refuses, it is
/// only logged: a leader that doesn't start protects nobody.
pub fn begin() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core files can't be switched off");
    }
    // Also for a system that pipes core files to a program, which heeds no limit.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "this process can't be hidden from others of its user");
    }
    panic::set_hook(Box::new(|info| {
        // A fixed text is the program's own; a made one may hold what it was made from.
        let said = info.payload().downcast_ref::<&'static str>();
        let what = said.copied().unwrap_or("what it says is not shown, since it may hold secrets");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "panic at {place}: {what}");
    }));
}
