//! Any text as `platform.yml`, `settings.yml`, a template or a migration:
//! faults with a place, or success; never a panic.

use super::{Platform, schema};
use crate::fault::Fault;
use crate::migration;
use crate::release::Release;
use crate::render::Machine;
use crate::secrets::Secrets;
use crate::source::{PLATFORM, Source, SourceFile};
use lockstep_shared::Name;
use proptest::prelude::*;
use proptest::sample::select;

const SETTINGS: &str = "release: 1.0.0
groups:
  G:
    settings:
      DOMAIN: {schema: {type: string, format: hostname}, default: example.com}
      SIZE: {schema: {type: integer, minimum: 1}, default: 20, overridable: true}
      HOSTS: {schema: {type: array, items: {type: string, format: host-port}}, default: []}
      MAP: {schema: {type: object, additionalProperties: {type: number}}, optional: true}
      TOKEN: {secret: {generate: {bytes: 32}}}
";

/// Pieces of what people write, right and wrong.
fn pieces(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![4 => select(words).prop_map(str::to_owned), 1 => "\\PC{0,3}", 1 => select(&["\n", "\n  ", "\n    ", "\n      ", "\t", "\r\n", "\u{0}", "\u{feff}"][..]).prop_map(str::to_owned)];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

const PLATFORM_WORDS: &[&str] = &[
    "settings:",
    "machines:",
    "release:",
    " 1.0.0",
    "\n  DOMAIN: ",
    "\n  SIZE: ",
    "\n  HOSTS:",
    "\n  MAP: ",
    "\n  TOKEN: ",
    "\n  core-1: ",
    "example.com",
    "20",
    "'",
    "\"",
    "[a:1, ",
    "]",
    "{a: ",
    "}",
    "- ",
    "${DOMAIN}",
    "${SIZE}",
    "${NOPE}",
    "${",
    "$${",
    "&a ",
    "*a",
    "|\n    x",
    "# c",
    "!!str ",
    "99999999999999999999",
    "1e999",
    "~",
    "\n",
    "? ",
    ": ",
];

const SETTINGS_WORDS: &[&str] = &[
    "release: 1.0.0\n",
    "groups:\n  G:\n",
    "    title: T\n",
    "    settings:\n",
    "      A: ",
    "      B:\n        ",
    "{schema: {type: integer}}\n",
    "{schema: {type: ",
    "string",
    "array",
    "nonsense",
    "}}",
    ", default: ",
    "1",
    "[]",
    "secret: ",
    "true",
    "{generate: {bytes: 7}}",
    "optional: ",
    "{schema: {$ref: '#'}}\n",
    "{schema: {pattern: '('}}\n",
    "{schema: {$ref: 'http://x/'}}\n",
    "schema: {minimum: x}\n",
    "format: port",
    "\n",
    "        ",
];

const TEMPLATE_WORDS: &[&str] = &[
    "{{",
    "}}",
    "{{DOMAIN}}",
    "{{#if ",
    "{{/if}}",
    "{{#each HOSTS}}",
    "{{/each}}",
    "{{else}}",
    "{{json MAP}}",
    "{{join HOSTS \",\"}}",
    "{{../X}}",
    "{{@root.SIZE}}",
    "{{> p}}",
    "{{{",
    "}}}",
    "{{!",
    "{{~",
    "~}}",
    "{{lookup MAP \"a\"}}",
    "{{indent 2 (yaml MAP)}}",
    "{{divide SIZE 0}}",
    "SIZE",
    " ",
    "(",
    ")",
    "\"",
    "text\n",
    "{{{{raw}}}}",
    "{{{{/raw}}}}",
    "as |x|",
    "{{repeat",
    "{{indent 99999999 DOMAIN}}",
    "{{this}}",
];

const MIGRATION_WORDS: &[&str] = &[
    "from: 0.9.0\n",
    "to: 1.0.0\n",
    "steps:\n",
    "  - rename: OLD\n    to: DOMAIN\n",
    "  - convert: SIZE\n    with: '{{add value 1}}'\n",
    "  - split: X\n    into: {A: x, B: '{{value}}'}\n",
    "  - delete: HOSTS\n",
    "  - move: SIZE\n    to: machines\n",
    "  - default: SIZE\n    was: ",
    "1\n",
    "    keep: true\n",
    "    back: x\n",
    "  - ",
    "{",
    "}",
    "'{{",
    "}}'",
    "\n",
];

fn machine() -> Machine {
    let name = |text: &str| Name::new(text).unwrap();
    Machine { name: name("core-1"), role: name("core"), addresses: Vec::new(), url: None }
}

fn source(platform: &str, settings: &str, template: &str, migration: &str) -> Source {
    let mut source = Source::default();
    for (name, text) in [
        (PLATFORM, platform),
        (schema::FILE, settings),
        ("templates/core/app/conf/a.conf.hbs", template),
        ("templates/partials/p.hbs", "partial {{SIZE}}"),
        ("templates/migrations/1.yml", migration),
    ] {
        source.files.insert(name.to_owned(), SourceFile::new(text.as_bytes(), false));
    }
    source
}

/// Every fault that has a line has it within its file, and says something.
fn placed(source: &Source, faults: &[Fault]) -> Result<(), TestCaseError> {
    prop_assert!(!faults.is_empty());
    for fault in faults {
        prop_assert!(!fault.what.is_empty());
        let Some(line) = fault.line else { continue };
        let text = source.text(&fault.file).unwrap().unwrap_or_default();
        let lines = text.matches(['\n', '\r']).count() + 2;
        prop_assert!(line >= 1 && line <= lines, "{fault}");
        if let Some(snippet) = &fault.snippet {
            prop_assert!(!snippet.contains("CANARY"), "{fault}");
        }
    }
    Ok(())
}

fn holds(source: &Source) -> Result<(), TestCaseError> {
    let all = [machine()];
    let mut secrets = Secrets::new([], None, crate::secrets::Drafts::Ignored);
    let mut memo = crate::memo::Memo::default();
    match Release::compile(source, &all, &mut memo).render(&all, &all, &mut secrets, 1, &mut memo) {
        Ok(bundles) => prop_assert_eq!(bundles.len(), 1),
        Err(crate::release::RenderError::Faults(faults)) => placed(source, &faults.0)?,
        Err(other) => return Err(TestCaseError::fail(other.to_string())),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_platform_file(text in pieces(PLATFORM_WORDS)) {
        holds(&source(&text, SETTINGS, "{{DOMAIN}} {{SIZE}} {{json MAP}} {{TOKEN}}\n", ""))?;
        let (settings, _) = schema::read(SETTINGS);
        let (platform, _) = Platform::read(&text, &settings, &["core-1"]);
        let _ = platform.wrong(&settings);
    }

    #[test]
    fn a_secret_in_a_platform_file_is_not_shown(before in pieces(PLATFORM_WORDS), after in pieces(PLATFORM_WORDS)) {
        holds(&source(&format!("settings:\n  TOKEN: CANARY{before}\n{after}"), SETTINGS, "", ""))?;
    }

    #[test]
    fn any_settings_file(text in pieces(SETTINGS_WORDS)) {
        holds(&source("settings: {A: 1, B: x}\n", &text, "{{A}}\n", ""))?;
    }

    #[test]
    fn any_template(text in pieces(TEMPLATE_WORDS)) {
        holds(&source("settings: {HOSTS: ['a:1'], MAP: {a: 1}}\n", SETTINGS, &text, ""))?;
    }

    #[test]
    fn any_migration(text in pieces(MIGRATION_WORDS), platform in pieces(PLATFORM_WORDS)) {
        let source = source(&platform, SETTINGS, "", &format!("from: 0.9.0\nto: 1.0.0\nsteps:\n{text}"));
        for to in [None, Some("0.9.0"), Some("0.5.0")] {
            for published in [None, Some("0.9.0")] {
                match migration::migrate(&source, published, to, &[machine()]) {
                    Ok(_) => {}
                    Err(faults) => placed(&source, &faults.0)?,
                }
                let _ = migration::check(&source, published);
            }
        }
    }
}
