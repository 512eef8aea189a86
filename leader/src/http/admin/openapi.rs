//! The description of this API (`OpenAPI` 3.1): made from the routes, with what
//! holds for all of them added here once.

use axum::body::Bytes;
use serde_json::json;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, HeaderBuilder, InfoBuilder, OpenApi, Ref, RefOr, Schema};

/// The name under which the document knows tokens.
const TOKEN: &str = "token";

/// The document as it is served.
#[derive(Debug, Clone)]
pub(super) struct Document(Bytes);

impl Document {
    /// Completes what the routes say of themselves.
    pub(super) fn new(mut api: OpenApi) -> Self {
        api.info = InfoBuilder::new()
            .title("lockstep leader")
            .version(env!("CARGO_PKG_VERSION"))
            .description(Some(
                "Settings, plans, publications, revisions, secrets, tokens and the audit of one leader. \
                 Every error is a problem body (RFC 9457).",
            ))
            .build();
        let components = api.components.get_or_insert_with(Components::new);
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("lockstep_...")
            .description(Some("lockstep access create NAME --right RIGHT, on the leader's machine"));
        components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer.build()));
        components.schemas.insert("Problem".to_owned(), RefOr::T(problem()));
        api.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(TOKEN, [])]);
        // The router's way to write a parameter that takes the rest of a path.
        let paths = std::mem::take(&mut api.paths.paths).into_iter();
        api.paths.paths = paths.map(|(path, item)| (path.replace("{*", "{"), item)).collect();
        for (path, item) in &mut api.paths.paths {
            let methods = [
                (HttpMethod::Get, &mut item.get),
                (HttpMethod::Post, &mut item.post),
                (HttpMethod::Put, &mut item.put),
                (HttpMethod::Patch, &mut item.patch),
                (HttpMethod::Delete, &mut item.delete),
            ];
            for (method, operation) in methods {
                if let Some(operation) = operation {
                    complete(path, &method, operation);
                }
            }
        }
        Self(Bytes::from(serde_json::to_vec(&api).unwrap_or_default()))
    }

    pub(super) fn json(&self) -> Bytes {
        self.0.clone()
    }
}

/// The answers that any route of its kind may give, and its name: handlers of two files may share theirs.
fn complete(path: &str, method: &HttpMethod, operation: &mut Operation) {
    let words: Vec<&str> = path.split(['/', '{', '}', '.']).filter(|word| !word.is_empty()).collect();
    let verb = serde_json::to_value(method).ok().and_then(|verb| verb.as_str().map(str::to_lowercase));
    operation.operation_id = Some(format!("{}_{}", verb.unwrap_or_default(), words.join("_")));
    let subject = words.iter().find(|word| **word != "admin").copied().unwrap_or("leader");
    operation.tags.get_or_insert_with(|| vec![subject.to_owned()]);
    let open = operation.security.as_ref().is_some_and(|security| !security.is_empty());
    let parameters = operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty());
    let body = operation.request_body.is_some();
    let mut add = |status: &str, description: &str| {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| refusal(description));
    };
    add("401", "The token is missing or not taken");
    add("431", "The header is too large");
    add("429", "Too many failures, or too much at once: wait");
    add("500", "The leader could not do it");
    if !open {
        add("403", "The token lacks the right");
    }
    if parameters || body {
        add("400", "The request can't be read");
    }
    if path.contains('{') {
        add("404", "There is no such thing");
    }
    if body {
        add("415", "The body is not JSON");
        add("422", "It can't be done as asked; what is wrong, and where");
    }
    if *method != HttpMethod::Get {
        add("408", "The body took too long");
        add("413", "The body is too large");
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if status.starts_with(['4', '5']) {
            response.content.insert("application/problem+json".to_owned(), problem_content());
            match status.as_str() {
                "401" => {
                    let text = ObjectBuilder::new().schema_type(Type::String);
                    response.headers.insert("WWW-Authenticate".to_owned(), HeaderBuilder::new().schema(text).build());
                }
                "429" => {
                    let seconds = ObjectBuilder::new().schema_type(Type::Integer);
                    response.headers.insert("Retry-After".to_owned(), HeaderBuilder::new().schema(seconds).build());
                }
                _ => {}
            }
        }
    }
}

fn refusal(description: &str) -> RefOr<utoipa::openapi::Response> {
    RefOr::T(ResponseBuilder::new().description(description).build())
}

fn problem_content() -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name("Problem")))).build()
}

fn problem() -> Schema {
    let text = |description: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    let number = |description: &str| ObjectBuilder::new().schema_type(Type::Integer).description(Some(description));
    let object = ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some("What went wrong, why, and what to do next (RFC 9457). Never holds a secret's value."))
        .property("type", text("urn:lockstep:problem:KIND"))
        .property("title", text("The kind in words"))
        .property("status", number("The HTTP status code"))
        .property("detail", text("What happened here, why, and what to do next"))
        .property("template", text("The file that is wrong"))
        .property("line", number("Its line, from 1"))
        .property("column", number("Its column, from 1"))
        .property("setting", text("The setting that is wrong"))
        .property("pointer", text("What is wrong in the body (JSON pointer, RFC 6901)"))
        .required("type")
        .required("title")
        .required("status")
        .required("detail")
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .examples([json!({
            "type": "urn:lockstep:problem:forbidden", "title": "This is not yours to do", "status": 403,
            "detail": "ci lacks the right publish"
        })]);
    Schema::Object(object.build())
}
