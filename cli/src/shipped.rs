//! The release that ships, inside the binary: `templates/` as `build.rs` packed it.

use crate::exit::{Failed, failed};
use lockstep_edge::durable;
use std::fs;
use std::io::Read as _;
use std::path::Path;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/release.tar.zst"));

/// Writes the release into a folder, which is made.
pub(crate) fn unpack(to: &Path) -> Result<(), Failed> {
    let wrong = |error: std::io::Error| failed(format!("{}: {error}", to.display()));
    let mut tar = tar::Archive::new(zstd::Decoder::new(PACKED)?);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path = to.join(entry.path()?);
        let mode = entry.header().mode()?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        fs::create_dir_all(path.parent().unwrap_or(to)).map_err(wrong)?;
        durable::place(&path, &bytes, mode).map_err(wrong)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lockstep_leader::source::Source;
    use std::path::Path;

    #[test]
    fn it_is_the_release_of_this_checkout() {
        let folder = tempfile::tempdir().unwrap();
        let templates = folder.path().join("templates");
        super::unpack(&templates).unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates");
        let platform = shipped.join("settings.yml");
        assert!(
            Source::read(&platform, &templates).unwrap() == Source::read(&platform, &shipped).unwrap(),
            "build.rs packed something else"
        );
    }
}
