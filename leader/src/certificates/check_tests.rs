use super::*;
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair};

const NOW: i64 = 1_800_000_000;

fn time(at: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at).unwrap()
}

struct Made {
    pem: String,
    key: KeyPair,
    params: CertificateParams,
}

fn params(name: &str, sans: &[&str], days: std::ops::Range<i64>) -> CertificateParams {
    let mut params = CertificateParams::new(sans.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (time(NOW + days.start * DAY), time(NOW + days.end * DAY));
    params
}

fn authority(name: &str, by: Option<&Made>) -> Made {
    let mut params = params(name, &[], -100..1000);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    sign(params, by)
}

fn sign(params: CertificateParams, by: Option<&Made>) -> Made {
    let key = KeyPair::generate().unwrap();
    let certificate = match by {
        Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    Made { pem: certificate.pem(), key, params }
}

fn found(chain: &[&Made], key: &str) -> Findings {
    let chain: String = chain.iter().map(|made| made.pem.as_str()).collect();
    look(&chain, Some(key), &["example.com".to_owned(), "*.example.com".to_owned()], NOW)
}

const SANS: [&str; 2] = ["example.com", "*.example.com"];

#[test]
fn a_good_chain_has_nothing_said_of_it() {
    let root = authority("root", None);
    let middle = authority("middle", Some(&root));
    let leaf = sign(params("example.com", &SANS, -1..90), Some(&middle));
    let good = found(&[&leaf, &middle], &leaf.key.serialize_pem());
    assert_eq!((good.broken, good.unfit, good.warnings), (vec![], vec![], vec![]));
    let facts = good.facts.unwrap();
    assert_eq!((facts.subject.as_str(), facts.issuer.as_str(), facts.chain), ("example.com", "middle", 2));
    assert_eq!((facts.names, facts.ends), (SANS.map(str::to_owned).to_vec(), NOW + 90 * DAY));
    assert_eq!(found(&[&leaf, &middle, &root], &leaf.key.serialize_pem()).unfit, Vec::<String>::new());
}

#[test]
fn every_mistake_has_its_words() {
    let root = authority("root", None);
    let middle = authority("middle", Some(&root));
    let leaf = sign(params("example.com", &SANS, -1..90), Some(&middle));
    let key = leaf.key.serialize_pem();
    let has = |found: &Findings, words: &str| {
        let all: Vec<&String> = found.broken.iter().chain(&found.unfit).chain(&found.warnings).collect();
        assert!(all.iter().any(|said| said.contains(words)), "{words}: {all:#?}");
    };
    has(
        &found(&[&middle, &leaf], &key),
        "wrong order: the server's own goes first, and each is followed by the one that issued it: example.com, then middle",
    );
    has(&found(&[&leaf, &root], &key), "example.com is not issued by root, which follows it, but by middle");
    let same_name = authority("middle", Some(&root));
    has(&found(&[&leaf, &same_name], &key), "another one of the same name");
    has(&found(&[&leaf], &key), "nothing in it says who middle is");
    let other = sign(params("example.com", &SANS, -1..90), Some(&middle));
    let swapped = found(&[&leaf, &middle], &other.key.serialize_pem());
    has(&swapped, "the private key is that of another certificate");
    assert_eq!(swapped.broken.len(), 1);
    has(&look("nothing", Some("nothing"), &[], NOW), "there is no certificate in it");
    has(&look("nothing", Some("nothing"), &[], NOW), "there is no private key in it");
    has(&look(&leaf.pem[..200], Some(&key), &[], NOW), "not whole PEM");
    has(&look(&key, Some(&leaf.pem), &[], NOW), "wrong way round");
    has(
        &found(&[&leaf, &middle], "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
        "openssl pkey",
    );

    let few = sign(params("www", &["www.example.com"], -1..90), Some(&middle));
    has(
        &found(&[&few, &middle], &few.key.serialize_pem()),
        "lacks the names example.com and *.example.com, and has only www.example.com",
    );
    let later = sign(params("later", &SANS, 2..90), Some(&middle));
    has(&found(&[&later, &middle], &later.key.serialize_pem()), "it is not valid yet, but from 2027-01-17 on");
    let over = sign(params("over", &SANS, -9..-2), Some(&middle));
    has(&found(&[&over, &middle], &over.key.serialize_pem()), "it ended on 2027-01-13");
    let soon = sign(params("soon", &SANS, -9..12), Some(&middle));
    let said = found(&[&soon, &middle], &soon.key.serialize_pem());
    assert_eq!((said.unfit, said.warnings), (vec![], vec!["it ends on 2027-01-27, in 12 days: renew it".to_owned()]));
    let mut client = params("client", &SANS, -1..90);
    client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let client = sign(client, Some(&middle));
    has(&found(&[&client, &middle], &client.key.serialize_pem()), "it is not for servers");
}

#[test]
fn who_says_where_the_issuer_is_to_be_had_needs_it() {
    let middle = authority("middle", None);
    let mut params = params("example.com", &SANS, -1..90);
    // AuthorityInfoAccess with one caIssuers (RFC 5280 section 4.2.2.1).
    let url = b"http://ca.example/m.der";
    let mut content =
        vec![0x30, 4 + 8 + u8::try_from(url.len()).unwrap(), 0x30, 2 + 8 + u8::try_from(url.len()).unwrap(), 6, 8];
    content.extend([0x2b, 6, 1, 5, 5, 7, 0x30, 2, 0x86, u8::try_from(url.len()).unwrap()]);
    content.extend(url);
    content[1] = u8::try_from(content.len() - 2).unwrap();
    content[3] = u8::try_from(content.len() - 4).unwrap();
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content)];
    let leaf = sign(params, Some(&middle));
    let said = found(&[&leaf], &leaf.key.serialize_pem());
    assert!(said.unfit[0].contains("curl -s http://ca.example/m.der"), "{said:?}");
}

#[test]
fn a_wildcard_is_one_level() {
    for (name, wanted, good) in [
        ("*.example.com", "a.example.com", true),
        ("*.EXAMPLE.com", "a.example.COM", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", "a.b.example.com", false),
        ("*.example.com", "*.example.com", true),
        ("*.com", "*.example.com", false),
        ("a.example.com", "*.example.com", false),
    ] {
        assert_eq!(covers(name, wanted), good, "{name} for {wanted}");
    }
}
