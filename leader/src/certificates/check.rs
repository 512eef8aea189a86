//! Whether a certificate, its chain (RFC 5280, as PEM by RFC 7468) and a private
//! key fit each other and what they are for. Pure: the time is passed in.

use lockstep_shared::Sha256;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::public_key::PublicKey;

/// A day, in seconds.
pub const DAY: i64 = 86_400;
/// From how long before its end a certificate is warned of, in days.
pub const SOON: i64 = 30;
/// The fewest bits of an RSA key (CA/Browser Forum, Baseline Requirements 6.1.5).
const RSA_BITS: usize = 2048;

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CertificateFacts)]
pub struct Facts {
    /// Its subject's common name, or its first name.
    pub subject: String,
    /// Its issuer's common name, or organization.
    pub issuer: String,
    /// The DNS names and addresses that it is for.
    pub names: Vec<String>,
    /// Its first second, Unix.
    pub begins: i64,
    /// Its last second, Unix; of the whole chain the earliest.
    pub ends: i64,
    /// SHA-256 over its DER, in hex.
    pub fingerprint: String,
    /// How many certificates there are, with its own.
    pub chain: usize,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// A server could not use it: nothing is published with it.
    pub broken: Vec<String>,
    /// It would be refused by those who come: not taken when it is given, a
    /// warning where it is there already.
    pub unfit: Vec<String>,
    /// What will be wrong soon, or may be.
    pub warnings: Vec<String>,
    /// What it says of itself, if it can be read.
    pub facts: Option<Facts>,
}

impl Findings {
    /// Everything but what is broken.
    pub fn remarks(&self) -> impl Iterator<Item = &String> {
        self.unfit.iter().chain(&self.warnings)
    }
}

/// Looks at a chain, the certificate itself first, and the key, if there is one.
/// `wanted`: the names that it has to cover.
pub fn look(chain: &str, key: Option<&str>, wanted: &[String], now: i64) -> Findings {
    let mut found = Findings::default();
    let ders = match certificates(chain) {
        Ok(ders) => ders,
        Err(what) => {
            found.broken.push(what);
            if let Some(key) = key {
                let _ = private(key).map_err(|what| found.broken.push(what));
            }
            return found;
        }
    };
    let mut read = Vec::new();
    for (index, der) in ders.iter().enumerate() {
        match x509_parser::parse_x509_certificate(der) {
            Ok((_, certificate)) => read.push(certificate),
            Err(error) => found.broken.push(format!("certificate {} in it can't be read: {error}", index + 1)),
        }
    }
    let [leaf, ..] = &read[..] else { return found };
    if read.len() < ders.len() {
        return found;
    }
    let mismatch = key.and_then(|key| match private(key) {
        Ok(spki) => spki.is_some_and(|spki| spki != leaf.public_key().raw).then_some(()),
        // Too short a key is told of the certificate already, in better words.
        Err(_) if rsa_bits(leaf).is_some_and(|bits| bits < RSA_BITS) => None,
        Err(what) => {
            found.broken.push(what);
            None
        }
    });
    let sorted = order(&read, &mut found);
    if mismatch.is_some() {
        let why = if sorted {
            "the private key is that of another certificate: give the key that the certificate was requested with (compare openssl x509 -noout -pubkey -in CERT with openssl pkey -pubout -in KEY)"
        } else {
            "the private key is not that of the first certificate; put the certificates in order first"
        };
        found.broken.push(why.to_owned());
    }
    // An authority that was put first says nothing of the server's names.
    if read.len() == 1 || !leaf.is_ca() {
        names(leaf, wanted, &mut found);
    }
    dates(&read, now, &mut found);
    strength(&read, &mut found);
    if let Ok(Some(usage)) = leaf.extended_key_usage()
        && !usage.value.server_auth
        && !usage.value.any
    {
        found.unfit.push(
            "it is not for servers (its extended key usage lacks serverAuth): ask for a server certificate".to_owned(),
        );
    }
    found.facts = Some(facts(&read, &ders[0]));
    found
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let ders: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(|error| {
        format!("the certificate is not whole PEM ({error}): copy it again, with all lines from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----")
    })?;
    if text.contains("PRIVATE KEY-----") {
        return Err("there is a private key among the certificates: a certificate is shown to anybody; give the key with --key alone".to_owned());
    }
    if ders.is_empty() {
        return Err("there is no certificate in it: it begins with -----BEGIN CERTIFICATE-----; of a DER file openssl x509 -inform der -in FILE makes one".to_owned());
    }
    Ok(ders)
}

/// The public half of a private key, where its kind tells it. The error never holds any of it.
fn private(text: &str) -> Result<Option<Vec<u8>>, String> {
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err("the private key is encrypted, and a server that starts by itself can't ask for the passphrase: openssl pkey -in KEY -out PLAIN (then chmod 600 PLAIN)".to_owned());
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(text.as_bytes());
    let key = match keys.next() {
        Some(Ok(key)) => key,
        Some(Err(_)) => {
            return Err("the private key is not whole PEM: copy it again, with its first and last line".to_owned());
        }
        None if text.contains("BEGIN CERTIFICATE") => {
            return Err(
                "there is a certificate where the private key should be: are --cert and --key the wrong way round?"
                    .to_owned(),
            );
        }
        None => {
            return Err(
                "there is no private key in it: it begins with -----BEGIN PRIVATE KEY----- (or RSA, or EC)".to_owned()
            );
        }
    };
    if keys.next().is_some() {
        return Err("there are several private keys in it: give the one of this certificate alone".to_owned());
    }
    let key = any_supported_type(&key).map_err(|_| {
        "the private key can't be read, or is of a kind that isn't taken: RSA of 2048 bits and more, P-256, P-384 and Ed25519 are".to_owned()
    })?;
    Ok(key.public_key().map(|spki| spki.as_ref().to_vec()))
}

/// Whether each certificate is issued by the next one, and the last by one that need not be sent.
fn order(read: &[X509Certificate<'_>], found: &mut Findings) -> bool {
    let issued = |one: &X509Certificate<'_>, by: &X509Certificate<'_>| {
        one.issuer() == by.subject() && one.verify_signature(Some(by.public_key())).is_ok()
    };
    if let Some(at) = read.windows(2).position(|pair| !issued(&pair[0], &pair[1])) {
        let what = if let Some(sorted) = in_order(read, &issued) {
            let names: Vec<String> = sorted.iter().map(|certificate| shown(certificate)).collect();
            format!(
                "the certificates are in the wrong order: the server's own goes first, and each is followed by the one that issued it: {}",
                names.join(", then ")
            )
        } else {
            let (one, next) = (&read[at], &read[at + 1]);
            format!(
                "{} is not issued by {}, which follows it, but by {}: that intermediate certificate is missing, or another one of the same name is in its place",
                shown(one),
                shown(next),
                issuer(one)
            )
        };
        found.unfit.push(what);
        return false;
    }
    let Some(last) = read.last().filter(|last| last.issuer() != last.subject()) else {
        if read.len() == 1 {
            found.warnings.push("it is signed by itself: only those who were told to will trust it".to_owned());
        }
        return true;
    };
    if read.len() == 1 {
        let fetch = fetched_from(last);
        let what = format!("nothing in it says who {} is, which issued it", issuer(last));
        match fetch {
            Some(url) => found.unfit.push(format!(
                "the intermediate certificate is missing: {what}; append it (curl -s {url} | openssl x509 -inform der), or give fullchain.pem"
            )),
            None => found.warnings.push(format!(
                "{what}: right only if those who come trust it directly; otherwise append its certificate (fullchain.pem)"
            )),
        }
    }
    true
}

/// The one order in which each is issued by the next.
fn in_order<'c, 'a>(
    read: &'c [X509Certificate<'a>],
    issued: &impl Fn(&X509Certificate<'a>, &X509Certificate<'a>) -> bool,
) -> Option<Vec<&'c X509Certificate<'a>>> {
    let issues_another =
        |one: &X509Certificate<'a>| read.iter().any(|other| !std::ptr::eq(other, one) && issued(other, one));
    let mut now = read.iter().find(|one| !issues_another(one))?;
    let mut sorted = vec![now];
    while let Some(next) =
        read.iter().find(|next| issued(now, next) && !sorted.iter().any(|done| std::ptr::eq(*done, *next)))
    {
        sorted.push(next);
        now = next;
    }
    (sorted.len() == read.len()).then_some(sorted)
}

/// Where its issuer's certificate is to be had, as it says itself (RFC 5280 section 4.2.2.1).
fn fetched_from(certificate: &X509Certificate<'_>) -> Option<String> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => {
            access.accessdescs.iter().find_map(|described| match described.access_location {
                GeneralName::URI(url) if described.access_method.to_id_string() == "1.3.6.1.5.5.7.48.2" => {
                    Some(url.to_owned())
                }
                _ => None,
            })
        }
        _ => None,
    })
}

fn names(leaf: &X509Certificate<'_>, wanted: &[String], found: &mut Findings) {
    let names = alternative_names(leaf);
    let missing: Vec<&str> =
        wanted.iter().map(String::as_str).filter(|wanted| !names.iter().any(|name| covers(name, wanted))).collect();
    if missing.is_empty() {
        return;
    }
    let has = if names.is_empty() {
        "no name at all (a common name alone doesn't count)".to_owned()
    } else {
        format!("only {}", names.join(", "))
    };
    found
        .unfit
        .push(format!("it lacks the names {}, and has {has}: request one for all of them", missing.join(" and ")));
}

/// Whether a certificate's name is good for a host, or for a whole level of them (RFC 6125 section 6.4.3).
fn covers(name: &str, wanted: &str) -> bool {
    if name.eq_ignore_ascii_case(wanted) {
        return true;
    }
    let below = |name: &str| name.split_once('.').map(|(_, rest)| rest.to_ascii_lowercase());
    name.starts_with("*.") && !wanted.starts_with("*.") && below(name).is_some() && below(name) == below(wanted)
}

fn dates(read: &[X509Certificate<'_>], now: i64, found: &mut Findings) {
    for (index, certificate) in read.iter().enumerate() {
        let what = if index == 0 { "it".to_owned() } else { shown(certificate) };
        let (begins, ends) =
            (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        if now < begins {
            found.unfit.push(format!(
                "{what} is not valid yet, but from {} on: is this machine's clock right (date -u)?",
                day(begins)
            ));
        } else if now > ends {
            found.unfit.push(format!("{what} ended on {}: renew it", day(ends)));
        } else if ends - now < SOON * DAY {
            found.warnings.push(format!("{what} ends on {}, in {} days: renew it", day(ends), (ends - now) / DAY));
        }
    }
}

/// `2026-11-21`.
pub fn day(time: i64) -> String {
    lockstep_edge::clock::rfc3339(time).chars().take(10).collect()
}

fn strength(read: &[X509Certificate<'_>], found: &mut Findings) {
    for certificate in read {
        if let Some(bits) = rsa_bits(certificate).filter(|bits| *bits < RSA_BITS) {
            found.unfit.push(format!(
                "the key of {} is too weak: RSA of {bits} bits; take {RSA_BITS} or more, or P-256",
                shown(certificate)
            ));
        }
        let weak = match certificate.signature_algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.4" => "MD5",
            "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => "SHA-1",
            _ => continue,
        };
        // Of one that is signed by itself nobody looks at the signature.
        if certificate.issuer() != certificate.subject() {
            found.unfit.push(format!(
                "{} is signed with {weak}, which nobody takes any more: have it issued anew",
                shown(certificate)
            ));
        }
    }
}

fn rsa_bits(certificate: &X509Certificate<'_>) -> Option<usize> {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => Some(key.key_size()),
        _ => None,
    }
}

fn facts(read: &[X509Certificate<'_>], der: &CertificateDer<'_>) -> Facts {
    let leaf = &read[0];
    let names = alternative_names(leaf);
    Facts {
        subject: shown(leaf),
        issuer: issuer(leaf),
        begins: leaf.validity().not_before.timestamp(),
        ends: read.iter().map(|certificate| certificate.validity().not_after.timestamp()).min().unwrap_or_default(),
        fingerprint: Sha256::of(der).to_string(),
        chain: read.len(),
        names,
    }
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::IpAddr::from(bytes).to_string());
            four.or_else(|| <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::IpAddr::from(bytes).to_string()))
        }
        _ => None,
    };
    names.map(|names| names.value.general_names.iter().filter_map(name).collect()).unwrap_or_default()
}

fn shown(certificate: &X509Certificate<'_>) -> String {
    let common = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned);
    let named = common.or_else(|| alternative_names(certificate).into_iter().next());
    format!("{:?}", named.unwrap_or_else(|| certificate.subject().to_string())).trim_matches('"').to_owned()
}

fn issuer(certificate: &X509Certificate<'_>) -> String {
    let common = certificate.issuer().iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned);
    format!("{:?}", common.unwrap_or_else(|| certificate.issuer().to_string())).trim_matches('"').to_owned()
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
