//! Packs `templates/`, the release that ships, for the binary to carry: a tar
//! in zstd. The same files give the same bytes, whoever builds and whenever.

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let templates = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../templates");
    println!("cargo::rerun-if-changed={}", templates.display());
    let out = Path::new(&std::env::var("OUT_DIR")?).join("release.tar.zst");
    let mut files = Vec::new();
    walk(&templates, &mut files)?;
    files.sort();
    let mut tar = tar::Builder::new(zstd::Encoder::new(File::create(out)?, 19)?);
    for path in files {
        let bytes = fs::read(&path)?;
        let mut header = tar::Header::new_ustar();
        // Only what a release says of a file: its bytes, and whether it is executed.
        header.set_mode(if path.metadata()?.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 });
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path.strip_prefix(&templates)?, &*bytes)?;
    }
    tar.into_inner()?.finish()?;
    Ok(())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else if entry.file_type()?.is_file() {
            files.push(entry.path());
        } else {
            return Err(format!("{} is neither a file nor a folder", entry.path().display()).into());
        }
    }
    Ok(())
}
