//! One member of a structured-field dictionary (RFC 8941 section 3.2): what
//! `Signature` and `Content-Digest` are read with.

use sfv::visitor::{DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor};
use sfv::{BareItemFromInput, KeyRef};
use std::convert::Infallible;

/// The byte sequence under `key`; `None` where there is none or the header can't be parsed.
pub(crate) fn bytes_member(header: &str, key: &str) -> Option<Vec<u8>> {
    sfv::Parser::new(header).parse_dictionary_with_visitor(Member { key, bytes: None }).ok()?
}

struct Member<'l> {
    key: &'l str,
    bytes: Option<Vec<u8>>,
}

impl<'a> DictionaryVisitor<'a> for Member<'_> {
    type Out = Option<Vec<u8>>;
    type Error = Infallible;

    fn entry(&mut self, key: &'a KeyRef) -> Result<impl EntryVisitor<'a>, Infallible> {
        Ok((key.as_str() == self.key).then_some(Bytes(&mut self.bytes)))
    }

    fn finish(self) -> Result<Self::Out, Infallible> {
        Ok(self.bytes)
    }
}

struct Bytes<'v>(&'v mut Option<Vec<u8>>);

impl<'a> EntryVisitor<'a> for Bytes<'_> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'a>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'a>, Infallible> {
        *self.0 = None;
        Ok(Ignored)
    }
}

impl<'a> ItemVisitor<'a> for Bytes<'_> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(self, value: BareItemFromInput<'a>) -> Result<impl ParameterVisitor<'a, Out = ()>, Infallible> {
        *self.0 = match value {
            BareItemFromInput::ByteSequence(bytes) => Some(bytes),
            _ => None,
        };
        Ok(Ignored)
    }
}
