//! Reads `Signature-Input` and `Signature` (RFC 9421 section 4, structured
//! fields of RFC 8941) without copying what the base needs.

use sfv::visitor::{DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor};
use sfv::{BareItemFromInput, KeyRef};
use std::convert::Infallible;

/// One parameter of a component or of a signature.
pub(super) type Param<'a> = (&'a str, BareItemFromInput<'a>);

/// One covered component: its name and parameters.
#[derive(Debug, Default)]
pub(super) struct Component<'a> {
    pub(super) name: Option<BareItemFromInput<'a>>,
    pub(super) params: Vec<Param<'a>>,
}

/// One member of `Signature-Input`.
#[derive(Debug, Default)]
pub(super) struct Input<'a> {
    pub(super) label: &'a str,
    /// False where the member is not an inner list.
    pub(super) is_list: bool,
    pub(super) components: Vec<Component<'a>>,
    pub(super) params: Vec<Param<'a>>,
}

impl<'a> Input<'a> {
    pub(super) fn param(&self, name: &str) -> Option<&BareItemFromInput<'a>> {
        find(&self.params, name)
    }
}

/// The last value given for a parameter (RFC 8941 section 3.1.2).
pub(super) fn find<'p, 'a>(params: &'p [Param<'a>], name: &str) -> Option<&'p BareItemFromInput<'a>> {
    params.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// All members of a `Signature-Input` value; `None` where it can't be parsed.
pub(super) fn parse_inputs(header: &str) -> Option<Vec<Input<'_>>> {
    sfv::Parser::new(header).parse_dictionary_with_visitor(Inputs(Vec::with_capacity(1))).ok()
}

struct Inputs<'a>(Vec<Input<'a>>);

impl<'a> DictionaryVisitor<'a> for Inputs<'a> {
    type Out = Vec<Input<'a>>;
    type Error = Infallible;

    fn entry(&mut self, key: &'a KeyRef) -> Result<impl EntryVisitor<'a>, Infallible> {
        let label = key.as_str();
        self.0.retain(|input| input.label != label);
        self.0.push(Input { label, components: Vec::with_capacity(5), params: Vec::with_capacity(6), is_list: false });
        Ok(self.0.last_mut().map(Entry))
    }

    fn finish(self) -> Result<Self::Out, Infallible> {
        Ok(self.0)
    }
}

struct Entry<'v, 'a>(&'v mut Input<'a>);

impl<'a> EntryVisitor<'a> for Entry<'_, 'a> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'a>, Infallible> {
        Ok(Ignored)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'a>, Infallible> {
        self.0.is_list = true;
        Ok(self)
    }
}

impl<'a> InnerListVisitor<'a> for Entry<'_, 'a> {
    type Error = Infallible;

    fn item(&mut self) -> Result<impl ItemVisitor<'a>, Infallible> {
        self.0.components.push(Component::default());
        Ok(self.0.components.last_mut())
    }

    fn finish(self) -> Result<impl ParameterVisitor<'a>, Infallible> {
        Ok(Params(&mut self.0.params))
    }
}

impl<'a> ItemVisitor<'a> for &mut Component<'a> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(self, name: BareItemFromInput<'a>) -> Result<impl ParameterVisitor<'a, Out = ()>, Infallible> {
        self.name = Some(name);
        Ok(Params(&mut self.params))
    }
}

struct Params<'v, 'a>(&'v mut Vec<Param<'a>>);

impl<'a> ParameterVisitor<'a> for Params<'_, 'a> {
    type Out = ();
    type Error = Infallible;

    fn parameter(&mut self, key: &'a KeyRef, value: BareItemFromInput<'a>) -> Result<(), Infallible> {
        // A repeated key keeps its first place and takes its last value.
        match self.0.iter_mut().find(|(known, _)| *known == key.as_str()) {
            Some(known) => known.1 = value,
            None => self.0.push((key.as_str(), value)),
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}
