//! The signature base (RFC 9421 section 2.5) for requests and responses.

use super::input::{Component, Input, Param, find};
use crate::fields::{Fields, text};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sfv::BareItemFromInput;
use std::fmt::Write as _;

/// What the components of a message are read from.
pub(super) enum Message<'a, F> {
    Request { method: &'a str, path: &'a str, query: Option<&'a str>, authority: Option<&'a str>, headers: &'a F },
    Response { status: u16, headers: &'a F, request: (&'a str, &'a [u8]) },
}

/// Why no base can be built: said to the sender, so it names what was wrong.
pub(super) type Fault = String;

/// The base that the signature `input` covers on `message`.
pub(super) fn build<F: Fields>(input: &Input<'_>, message: &Message<'_, F>) -> Result<String, Fault> {
    let mut base = String::with_capacity(768);
    for (index, component) in input.components.iter().enumerate() {
        let name = name(component)?;
        let same = |other: &Component<'_>| {
            matches!(&other.name, Some(BareItemFromInput::String(known)) if known.as_str() == name)
                && other.params.len() == component.params.len()
        };
        if input.components[..index].iter().any(same) {
            return Err(format!("the component {name:?} is covered twice"));
        }
        write_identifier(&mut base, name, component)?;
        base.push_str(": ");
        match message {
            Message::Request { .. } => request_value(&mut base, name, component, message)?,
            Message::Response { .. } => response_value(&mut base, name, component, message)?,
        }
        base.push('\n');
    }
    base.push_str("\"@signature-params\": (");
    for (index, component) in input.components.iter().enumerate() {
        if index > 0 {
            base.push(' ');
        }
        write_identifier(&mut base, name(component)?, component)?;
    }
    base.push(')');
    write_params(&mut base, &input.params)?;
    Ok(base)
}

fn write_identifier(base: &mut String, name: &str, component: &Component<'_>) -> Result<(), Fault> {
    write_string(base, name);
    write_params(base, &component.params)
}

/// The name of a component, which has to be a string.
pub(super) fn name<'c>(component: &'c Component<'_>) -> Result<&'c str, Fault> {
    match &component.name {
        Some(BareItemFromInput::String(name)) => Ok(name.as_str()),
        _ => Err("a covered component is not a quoted string".to_owned()),
    }
}

fn request_value<F: Fields>(
    base: &mut String,
    name: &str,
    component: &Component<'_>,
    message: &Message<'_, F>,
) -> Result<(), Fault> {
    let Message::Request { method, path, query, authority, headers } = message else { return Ok(()) };
    if !component.params.is_empty() {
        return Err(format!("parameters of the component {name:?} are not supported on a request"));
    }
    match name {
        "@method" => base.push_str(method),
        "@path" => base.push_str(if path.is_empty() { "/" } else { path }),
        "@query" => {
            base.push('?');
            base.push_str(query.unwrap_or_default());
        }
        "@request-target" => {
            base.push_str(path);
            if let Some(query) = query {
                base.push('?');
                base.push_str(query);
            }
        }
        "@authority" => {
            let authority = authority.ok_or("the request has no Host to cover as @authority")?.to_ascii_lowercase();
            base.push_str(authority.strip_suffix(":80").unwrap_or(&authority));
        }
        _ if name.starts_with('@') => return Err(format!("the component {name:?} is not supported")),
        _ => field(base, name, *headers)?,
    }
    Ok(())
}

fn response_value<F: Fields>(
    base: &mut String,
    name: &str,
    component: &Component<'_>,
    message: &Message<'_, F>,
) -> Result<(), Fault> {
    let Message::Response { status, headers, request } = message else { return Ok(()) };
    if name == "signature" && matches!(find(&component.params, "req"), Some(BareItemFromInput::Boolean(true))) {
        let (label, mac) = *request;
        match find(&component.params, "key") {
            Some(BareItemFromInput::String(key)) if key.as_str() == label => {}
            _ => return Err(format!("the response has to name the request's own signature {label:?}")),
        }
        base.push(':');
        STANDARD.encode_string(mac, base);
        base.push(':');
        return Ok(());
    }
    if !component.params.is_empty() {
        return Err(format!("parameters of the component {name:?} are not supported on a response"));
    }
    match name {
        "@status" => {
            let _ = write!(base, "{status}");
            Ok(())
        }
        _ if name.starts_with('@') => Err(format!("the component {name:?} is not supported on a response")),
        _ => field(base, name, *headers),
    }
}

/// A field's value: all its lines trimmed and joined by ", " (section 2.1).
fn field(base: &mut String, name: &str, headers: &impl Fields) -> Result<(), Fault> {
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("the component {name:?} is not in lower case"));
    }
    let mut lines = headers.lines(name);
    let first = lines.next().ok_or_else(|| format!("the covered field {name:?} is not in the message"))?;
    for (index, line) in std::iter::once(first).chain(lines).enumerate() {
        if index > 0 {
            base.push_str(", ");
        }
        base.push_str(text(line).ok_or_else(|| format!("the covered field {name:?} is not ASCII text"))?.trim());
    }
    Ok(())
}

fn write_params(out: &mut String, params: &[Param<'_>]) -> Result<(), Fault> {
    for (key, value) in params {
        out.push(';');
        out.push_str(key);
        match value {
            BareItemFromInput::Boolean(true) => {}
            BareItemFromInput::Boolean(false) => out.push_str("=?0"),
            BareItemFromInput::Integer(number) => {
                let _ = write!(out, "={number}");
            }
            BareItemFromInput::String(text) => {
                out.push('=');
                write_string(out, text.as_str());
            }
            BareItemFromInput::Token(token) => {
                out.push('=');
                out.push_str(token.as_str());
            }
            BareItemFromInput::ByteSequence(bytes) => {
                out.push_str("=:");
                STANDARD.encode_string(bytes, out);
                out.push(':');
            }
            _ => return Err(format!("the parameter {key:?} has a type that no signature parameter has")),
        }
    }
    Ok(())
}

/// An sf-string: quotes and backslashes escaped (RFC 8941 section 4.1.6).
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    if text.bytes().any(|b| matches!(b, b'"' | b'\\')) {
        for c in text.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
    } else {
        out.push_str(text);
    }
    out.push('"');
}
