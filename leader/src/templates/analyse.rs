//! Reads the parsed templates: unknown names and helpers, also in branches
//! that no value takes; partials that go round in a circle; and which setting
//! each template uses. Turns every `{{NAME}}` into a strict print on the way.

use super::Templates;
use super::helpers::{self, PRINT};
use crate::fault::{Fault, nearest};
use handlebars::Path;
use handlebars::template::{
    BlockParam, DecoratorTemplate, HelperTemplate, Parameter, Subexpression, Template, TemplateElement,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a template's output depends on, beside its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Takes {
    /// Names of the context that are no settings: `machine`, `machines`, `revision`, `release`.
    pub context: BTreeSet<&'static str>,
    /// The context as a whole: nothing is known to be without effect.
    pub everything: bool,
    /// The templates that it takes in, itself among them.
    pub templates: BTreeSet<String>,
}

/// What the context holds beside the settings.
const CONTEXT: [&str; 4] = ["machine", "machines", "revision", "release"];

pub(super) struct Analysis<'s> {
    settings: &'s BTreeSet<&'s str>,
    uses: BTreeMap<String, BTreeSet<String>>,
    takes: BTreeMap<String, Takes>,
    /// Partials taken in, by template name, with the place of the first.
    partials: BTreeMap<String, BTreeMap<String, (usize, usize)>>,
    faults: Vec<Fault>,
}

/// Where in a template the walk is.
#[derive(Clone)]
struct Scope<'t> {
    file: &'t str,
    template: &'t str,
    at: (usize, usize),
    /// How many `each`/`with` blocks are open: names at the top mean settings only outside all.
    depth: usize,
    /// Names that blocks gave (`as |item|`) or the partial's caller may give.
    locals: Vec<String>,
    /// A partial's hash parameters can't be known here.
    partial: bool,
}

impl<'s> Analysis<'s> {
    pub(super) fn new(settings: &'s BTreeSet<&'s str>) -> Self {
        Self { settings, uses: BTreeMap::new(), takes: BTreeMap::new(), partials: BTreeMap::new(), faults: Vec::new() }
    }

    pub(super) fn template(&mut self, file: &str, name: &str, template: &mut Template) {
        self.uses.insert(name.to_owned(), BTreeSet::new());
        let partial = file != name;
        let scope = Scope { file, template: name, at: (1, 1), depth: 0, locals: Vec::new(), partial };
        self.body(template, &scope);
    }

    /// What each template takes beside settings, its partials' included.
    pub(super) fn takes(&self) -> BTreeMap<String, Takes> {
        let whole = self.uses.keys().map(|name| {
            let mut reached = BTreeSet::new();
            reach(name, &self.partials, &mut reached);
            let mut all = Takes::default();
            for takes in reached.iter().filter_map(|name| self.takes.get(*name)) {
                all.context.extend(&takes.context);
                all.everything |= takes.everything;
            }
            all.templates = reached.into_iter().map(str::to_owned).collect();
            (name.clone(), all)
        });
        whole.collect()
    }

    /// Settings by template, those of its partials included, and all faults.
    pub(super) fn finish(mut self) -> (BTreeMap<String, BTreeSet<String>>, Vec<Fault>) {
        for (name, taken) in &self.partials {
            for (partial, at) in taken {
                if !self.uses.contains_key(partial) {
                    let known = self.uses.keys().map(String::as_str).filter(|name| !name.starts_with("templates/"));
                    let what = format!(
                        "unknown partial {partial}{} (partials are templates/partials/NAME.hbs)",
                        nearest(partial, known)
                    );
                    self.faults.push(Fault::new(Templates::file_of(name), what).at(*at));
                }
            }
            if let Some((circle, at)) = circle(name, &self.partials) {
                let what = format!("the partials take each other in without end: {}", circle.join(" -> "));
                self.faults.push(Fault::new(Templates::file_of(name), what).at(at));
            }
        }
        let whole = self.uses.keys().map(|name| {
            let mut reached = BTreeSet::new();
            reach(name, &self.partials, &mut reached);
            let settings = reached.iter().filter_map(|name| self.uses.get(*name)).flatten().cloned().collect();
            (name.clone(), settings)
        });
        (whole.collect(), self.faults)
    }

    fn fault(&mut self, scope: &Scope<'_>, what: String) {
        let fault = Fault::new(scope.file, what).at(scope.at);
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn body(&mut self, template: &mut Template, scope: &Scope<'_>) {
        let places = template.mapping.clone();
        for (index, element) in template.elements.iter_mut().enumerate() {
            let at = places.get(index).map_or(scope.at, |place| (place.0, place.1));
            self.element(element, &Scope { at, ..scope.clone() });
        }
    }

    fn element(&mut self, element: &mut TemplateElement, scope: &Scope<'_>) {
        match element {
            TemplateElement::Expression(helper) | TemplateElement::HtmlExpression(helper) => {
                self.expression(helper, scope);
            }
            TemplateElement::HelperBlock(helper) => self.block(helper, scope),
            TemplateElement::PartialExpression(partial) => self.partial(partial, scope),
            TemplateElement::PartialBlock(_) => {
                self.fault(scope, "{{#> partial}} blocks are not supported: use {{> partial}}".to_owned());
            }
            TemplateElement::DecoratorExpression(_) | TemplateElement::DecoratorBlock(_) => {
                self.fault(scope, "decorators and inline partials ({{#*inline}}) are not supported: put partials into templates/partials/".to_owned());
            }
            TemplateElement::RawString(_) | TemplateElement::Comment(_) => {}
            _ => self.fault(scope, "this kind of expression is not supported".to_owned()),
        }
    }

    fn expression(&mut self, helper: &mut HelperTemplate, scope: &Scope<'_>) {
        let bare = helper.params.is_empty() && helper.hash.is_empty();
        let name = text(&helper.name);
        if bare && !helpers::is_known(&name) {
            // `{{NAME}}` prints a value: strictly, and never a list or nothing.
            self.parameter(&mut helper.name, scope);
            let value = std::mem::replace(&mut helper.name, Parameter::Name(PRINT.to_owned()));
            // The parser gives a plain word as a name; only a path has a value.
            let value = match value {
                Parameter::Name(name) => Path::parse(&name).map_or(Parameter::Name(name), Parameter::Path),
                other => other,
            };
            helper.params = vec![value];
            return;
        }
        self.call(helper, scope);
    }

    fn call(&mut self, helper: &mut HelperTemplate, scope: &Scope<'_>) {
        let name = text(&helper.name);
        if !helpers::is_known(&name) || name == PRINT {
            let near = nearest(&name, helpers::names());
            self.fault(scope, format!("unknown helper {name}{near}"));
        }
        for parameter in helper.params.iter_mut().chain(helper.hash.values_mut()) {
            self.parameter(parameter, scope);
        }
    }

    fn block(&mut self, helper: &mut HelperTemplate, scope: &Scope<'_>) {
        self.call(helper, scope);
        let mut inner = scope.clone();
        if matches!(text(&helper.name).as_str(), "each" | "with") {
            inner.depth += 1;
        }
        match &helper.block_param {
            Some(BlockParam::Single(one)) => inner.locals.push(text(one)),
            Some(BlockParam::Pair((one, two))) => inner.locals.extend([text(one), text(two)]),
            _ => {}
        }
        if let Some(template) = &mut helper.template {
            self.body(template, &inner);
        }
        if let Some(template) = &mut helper.inverse {
            self.body(template, scope);
        }
    }

    fn partial(&mut self, partial: &mut DecoratorTemplate, scope: &Scope<'_>) {
        let name = text(&partial.name);
        let taken = self.partials.entry(scope.template.to_owned()).or_default();
        taken.entry(name).or_insert(scope.at);
        for parameter in partial.params.iter_mut().chain(partial.hash.values_mut()) {
            self.parameter(parameter, scope);
        }
    }

    fn parameter(&mut self, parameter: &mut Parameter, scope: &Scope<'_>) {
        match parameter {
            Parameter::Name(name) => self.name(&name.clone(), scope),
            Parameter::Path(path) => self.name(raw(path), scope),
            Parameter::Subexpression(Subexpression { element, .. }) => {
                if let TemplateElement::Expression(helper) = element.as_mut() {
                    self.call(helper, scope);
                }
            }
            Parameter::Literal(_) => {}
            _ => self.fault(scope, "this kind of argument is not supported".to_owned()),
        }
    }

    /// A name as it is written: `DOMAIN`, `machine.name`, `../X`, `@root.X`, `this`.
    fn name(&mut self, raw: &str, scope: &Scope<'_>) {
        let mut rest = raw;
        let mut depth = scope.depth;
        let mut rooted = false;
        if let Some(after) = rest.strip_prefix("@root") {
            (rest, rooted) = (after.trim_start_matches(['.', '/']), true);
        } else if rest.starts_with('@') {
            return;
        }
        while let Some(after) = rest.strip_prefix("../") {
            rest = after;
            depth = depth.saturating_sub(1);
        }
        let rest = rest.strip_prefix("this.").or_else(|| rest.strip_prefix("./")).unwrap_or(rest);
        let first = rest.split(['.', '/']).next().unwrap_or_default().trim_matches(['[', ']']);
        if scope.locals.iter().any(|local| local == first) {
            return;
        }
        let top = depth == 0 || rooted;
        if first.is_empty() || matches!(first, "this" | "." | "..") {
            if top || (first == ".." && depth == 1) {
                self.takes.entry(scope.template.to_owned()).or_default().everything = true;
            }
            return;
        }
        if let Some(name) = CONTEXT.into_iter().find(|name| *name == first && top) {
            self.takes.entry(scope.template.to_owned()).or_default().context.insert(name);
        }
        if self.settings.contains(first) {
            if depth == 0 || rooted {
                self.uses.entry(scope.template.to_owned()).or_default().insert(first.to_owned());
            }
            return;
        }
        if (depth > 0 && !rooted) || CONTEXT.contains(&first) || (scope.partial && !rooted) {
            return;
        }
        let near = nearest(first, self.settings.iter().copied().chain(CONTEXT));
        let what = format!("unknown name {first}{near} (settings are described in templates/settings.yml)");
        let fault = Fault::new(scope.file, what).at(scope.at).about(first);
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

fn raw(path: &Path) -> &str {
    let (Path::Relative((_, raw)) | Path::Local((_, _, raw))) = path;
    raw
}

fn text(parameter: &Parameter) -> String {
    match parameter {
        Parameter::Name(name) => name.clone(),
        Parameter::Path(path) => raw(path).to_owned(),
        Parameter::Literal(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        _ => String::new(),
    }
}

type Partials = BTreeMap<String, BTreeMap<String, (usize, usize)>>;

fn reach<'p>(name: &'p str, partials: &'p Partials, reached: &mut BTreeSet<&'p str>) {
    if reached.insert(name) {
        for partial in partials.get(name).into_iter().flat_map(BTreeMap::keys) {
            reach(partial, partials, reached);
        }
    }
}

/// The way from a template back to itself, if there is one.
fn circle(start: &str, partials: &Partials) -> Option<(Vec<String>, (usize, usize))> {
    fn search(at: &str, start: &str, partials: &Partials, path: &mut Vec<String>, seen: &mut BTreeSet<String>) -> bool {
        partials.get(at).into_iter().flat_map(BTreeMap::keys).any(|next| {
            if next == start {
                return true;
            }
            if !seen.insert(next.clone()) {
                return false;
            }
            path.push(next.clone());
            let found = search(next, start, partials, path, seen);
            if !found {
                path.pop();
            }
            found
        })
    }
    let mut path = vec![start.to_owned()];
    search(start, start, partials, &mut path, &mut BTreeSet::new()).then(|| {
        let first = path.get(1).map_or(start, String::as_str).to_owned();
        path.push(start.to_owned());
        (path, partials[start][&first])
    })
}
