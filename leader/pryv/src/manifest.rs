//! `role.yml` of each role: who mounts what, and what is special about files.

use lockstep_leader::yaml::{self, Node};
use lockstep_shared::SafePath;
use std::collections::{BTreeMap, BTreeSet};

/// What is special about a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Special {
    /// The original's follower never wrote it: nobody waits for it.
    pub(crate) unwritten: bool,
    /// Its text isn't what its extension says.
    pub(crate) invalid: bool,
    /// The permission bits that it has on the machine, where they are special.
    pub(crate) mode: Option<u32>,
}

/// A `role.yml`; `None` where there is nothing to say. `compose` is the
/// rendered compose file.
pub(crate) fn role_yml(compose: Option<&str>, specials: &BTreeMap<SafePath, Special>) -> Option<String> {
    let mounts = compose.map(mounts).unwrap_or_default();
    let rules: Vec<_> = specials.iter().filter(|(_, special)| **special != Special::default()).collect();
    if mounts.is_empty() && rules.is_empty() {
        return None;
    }
    let mut out = String::new();
    if !mounts.is_empty() {
        out.push_str("# What the compose file mounts, and into which services. A changed file restarts those;\n");
        out.push_str("# another verb is said below, for example \"nginx/conf/**\": {on_change: \"signal:HUP\"}\n");
        for (source, services) in &mounts {
            let services: Vec<&str> = services.iter().map(String::as_str).collect();
            let line: String =
                format!("#   {source}  {}", services.join(", ")).chars().filter(|c| !c.is_control()).collect();
            out.push_str(&line);
            out.push('\n');
        }
    }
    if rules.is_empty() {
        out.push_str("files: {}\n");
        return Some(out);
    }
    out.push_str("files:\n");
    for (path, special) in rules {
        let mut rule = Vec::new();
        if special.unwritten {
            rule.push("on_change: none".to_owned());
        }
        if special.invalid {
            rule.push("validate: false".to_owned());
        }
        if let Some(mode) = special.mode {
            rule.push(format!("mode: \"{mode:04o}\""));
        }
        let glob = serde_json::Value::String(glob(path.as_str())).to_string();
        out.push_str(&format!("  {glob}: {{{}}}\n", rule.join(", ")));
    }
    Some(out)
}

/// A glob that matches this path only.
fn glob(path: &str) -> String {
    let mut out = String::new();
    for char in path.chars() {
        if "*?[]{}!\\".contains(char) {
            out.push_str(&format!("[{char}]"));
        } else {
            out.push(char);
        }
    }
    out.replace("[\\]", "\\\\")
}

/// The services that mount each path below the data folder.
fn mounts(compose: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut mounts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let Ok(root) = yaml::parse("pryv.yml", compose) else { return mounts };
    for (service, body) in root.get("services").and_then(Node::map).unwrap_or_default() {
        for volume in body.get("volumes").and_then(Node::list).unwrap_or_default() {
            let source = match volume.text() {
                Some(text) => text.split(":/").next(),
                None => volume.get("source").and_then(Node::text),
            };
            let below = source.and_then(|source| {
                source.strip_prefix("${PRYV_CONF_ROOT}/pryv/").or_else(|| source.strip_prefix("./"))
            });
            if let Some(below) = below {
                mounts.entry(below.to_owned()).or_default().insert(service.text.clone());
            }
        }
    }
    mounts
}

/// Whether the original's follower writes a file: at the top, in `X/conf/` and in `X/templates/`.
pub(crate) fn was_written(path: &SafePath) -> bool {
    let segments: Vec<&str> = path.segments().collect();
    segments.len() == 1 || (segments.len() > 2 && matches!(segments[1], "conf" | "templates"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_mounted_and_what_is_special() {
        let compose = "services:\n  web:\n    volumes:\n      - ${PRYV_CONF_ROOT}/pryv/nginx/conf/:/app/conf/:ro\n      - /dev/log:/dev/log\n";
        let path = |text: &str| SafePath::new(text).unwrap();
        let specials = BTreeMap::from([
            (path("db/backup/.gitkeep"), Special { unwritten: true, ..Special::default() }),
            (path("x/conf/[a]*.json"), Special { invalid: true, mode: Some(0o640), ..Special::default() }),
        ]);
        let text = role_yml(Some(compose), &specials).unwrap();
        assert!(text.contains("#   nginx/conf/  web\n"), "{text}");
        assert!(text.contains("  \"db/backup/.gitkeep\": {on_change: none}\n"), "{text}");
        assert!(text.contains("  \"x/conf/[[]a[]][*].json\": {validate: false, mode: \"0640\"}\n"), "{text}");
        assert!(was_written(&path("pryv.yml")) && was_written(&path("a/conf/b/c")) && !was_written(&path("a/conf")));
    }
}
