//! The same edits on the tree: what the edited text has to say.

use crate::yaml::{Key, Kind, Node};

/// The tree with the node at a path changed.
pub(super) fn changed(mut root: Node, path: &[&str], change: &mut dyn FnMut(&mut Node, bool), flow: bool) -> Node {
    let mut node = &mut root;
    for key in path {
        let Kind::Map(entries) = &mut node.kind else { return root };
        let Some(at) = entries.iter().position(|(known, _)| known.text == *key) else { return root };
        let Kind::Map(entries) = &mut node.kind else { return root };
        node = &mut entries[at].1;
    }
    change(node, flow);
    root
}

/// The same replacement in the tree.
pub(super) fn refer(node: &mut Node, old: &str, new: &str) {
    match &mut node.kind {
        Kind::Scalar { text, .. } => {
            let mut out = String::new();
            let mut rest = text.as_str();
            while let Some(found) = rest.find(old) {
                out.push_str(&rest[..found]);
                out.push_str(if rest[..found].ends_with('$') { old } else { new });
                rest = &rest[found + old.len()..];
            }
            out.push_str(rest);
            *text = out;
        }
        Kind::List(items) => items.iter_mut().for_each(|item| refer(item, old, new)),
        Kind::Map(entries) => entries.iter_mut().for_each(|(_, value)| refer(value, old, new)),
    }
}

pub(super) fn put_entry(node: &mut Node, name: &str, value: &Node) {
    if !matches!(node.kind, Kind::Map(_)) {
        node.kind = Kind::Map(Vec::new());
    }
    let Kind::Map(entries) = &mut node.kind else { return };
    match entries.iter_mut().find(|(key, _)| key.text == name) {
        Some((_, old)) => *old = value.clone(),
        None => entries.push((Key { text: name.to_owned(), at: value.at }, value.clone())),
    }
}
