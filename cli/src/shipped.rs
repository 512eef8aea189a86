//! The release that ships, inside the binary: `templates/` as `build.rs` packed it.

use crate::exit::Failed;
use lockstep_leader::source::{Source, SourceFile, TEMPLATES};
use std::io::Read as _;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/release.tar.zst"));

/// Its files, as `Source` names them.
pub(crate) fn source() -> Result<Source, Failed> {
    let mut source = Source::default();
    let mut tar = tar::Archive::new(zstd::Decoder::new(PACKED)?);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let name = format!("{TEMPLATES}/{}", entry.path()?.display());
        let executable = entry.header().mode()? & 0o100 != 0;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        source.files.insert(name, SourceFile::new(bytes, executable));
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use lockstep_leader::source::Source;
    use std::path::Path;

    #[test]
    fn it_is_the_release_of_this_checkout() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates");
        assert!(super::source().unwrap() == Source::templates(&shipped).unwrap(), "build.rs packed something else");
    }
}
