//! The OpenAPI 3.1 document of the list of endpoints, callbacks included.

use crate::endpoints::{Endpoint, Needs};
use reveille_wire::{CallbackBody, ErrorBody};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema as JsonSchemaValue};
use serde_json::{Map, Value, json};

/// How a body is described.
#[derive(Clone, Copy)]
pub(crate) enum Schema {
    /// JSON of a type.
    Json(fn(&mut SchemaGenerator) -> JsonSchemaValue),
    /// The form of the token calls.
    Form,
}

impl Schema {
    pub(crate) fn json<T: JsonSchema>() -> Self {
        Self::Json(schemars::SchemaGenerator::subschema_for::<T>)
    }
}

/// What a call answers with 200.
#[derive(Clone, Copy)]
pub(crate) struct Answer(Option<Schema>);

impl Answer {
    pub(crate) fn json<T: JsonSchema>() -> Self {
        Self(Some(Schema::json::<T>()))
    }

    /// Anything but JSON of a fixed shape.
    pub(crate) fn text() -> Self {
        Self(None)
    }
}

/// The refusals that calls share, by status.
const REFUSALS: [(&str, &str); 9] = [
    ("400", "The body, a parameter or the Idempotency-Key is not acceptable"),
    ("401", "No live bearer token or session"),
    ("403", "Not an account of this user, or not an operator"),
    ("404", "No such thing"),
    ("405", "Not with this method"),
    ("413", "The body is over the limit"),
    ("415", "The content is not announced as JSON"),
    ("429", "A limit on rate or backlog is reached; Retry-After says when to come again"),
    ("503", "The store cannot answer now; Retry-After says when to come again"),
];

pub(crate) fn document(endpoints: &[Endpoint]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for endpoint in endpoints {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = operation(endpoint, &mut generator);
    }
    let error = generator.subschema_for::<ErrorBody>();
    let refusals: Map<String, Value> = REFUSALS
        .iter()
        .map(|(status, text)| {
            let content = json!({"application/json": {"schema": error}});
            (format!("Refused{status}"), json!({"description": text, "content": content}))
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Reveille",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An eSIM profile lifecycle server that speaks the wire contract of Verizon ThingSpace's eSIM-profile API, and a surface of its own.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": refusals,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "An OAuth2 client's key and secret"},
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token from /api/ts/v1/oauth2/token"},
                "session": {"type": "apiKey", "in": "header", "name": "VZ-M2M-Token", "description": "A session token from /api/m2m/v1/session/login"},
            },
        },
    })
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "tags": [tag(endpoint.path)],
        "security": security(endpoint.needs),
        "parameters": parameters(endpoint),
        "responses": responses(endpoint, generator),
    });
    if let Some(schema) = endpoint.takes {
        operation["requestBody"] = json!({"required": true, "content": content(schema, generator)});
    }
    if endpoint.tells {
        operation["callbacks"] = callbacks(generator);
    }
    operation
}

fn tag(path: &str) -> &'static str {
    match path {
        _ if path.starts_with("/api/reveille/") => "Reveille",
        _ if path.starts_with("/api/") => "ThingSpace",
        _ => "Operation",
    }
}

fn security(needs: Needs) -> Value {
    match needs {
        Needs::Nothing => json!([]),
        Needs::Basic => json!([{"basic": []}]),
        Needs::Bearer => json!([{"bearer": []}]),
        Needs::Session => json!([{"bearer": [], "session": []}]),
    }
}

fn parameters(endpoint: &Endpoint) -> Value {
    let in_path = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let in_query = endpoint.query.iter().map(|(name, text)| {
        let kind = if *name == "limit" { "integer" } else { "string" };
        json!({"name": name, "in": "query", "required": *name == "account", "description": text, "schema": {"type": kind}})
    });
    let key = endpoint.tells.then(|| {
        json!({"name": "Idempotency-Key", "in": "header", "required": false,
               "description": "1 to 255 visible ASCII characters: a repeat within 24 hours is the same request",
               "schema": {"type": "string", "minLength": 1, "maxLength": 255}})
    });
    in_path.chain(in_query).chain(key).collect()
}

fn responses(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let mut responses = Map::new();
    let answered = match endpoint.answers.0 {
        Some(schema) => json!({"description": "Done", "content": content(schema, generator)}),
        None => json!({"description": "Done"}),
    };
    responses.insert("200".into(), answered);
    for (status, _) in REFUSALS.iter().filter(|(status, _)| may_refuse(endpoint, status)) {
        responses
            .insert((*status).into(), json!({"$ref": format!("#/components/responses/Refused{status}")}));
    }
    Value::Object(responses)
}

fn may_refuse(endpoint: &Endpoint, status: &str) -> bool {
    let path = endpoint.path;
    match status {
        "400" => endpoint.takes.is_some() || !endpoint.query.is_empty() || path.ends_with("/status"),
        "401" => endpoint.needs != Needs::Nothing,
        "403" => endpoint.needs == Needs::Session,
        "404" => path.contains('{'),
        "405" => true,
        "413" | "415" => matches!(endpoint.takes, Some(Schema::Json(_))),
        "429" => endpoint.takes.is_some(),
        _ => true,
    }
}

fn content(schema: Schema, generator: &mut SchemaGenerator) -> Value {
    match schema {
        Schema::Json(schema) => json!({"application/json": {"schema": schema(generator)}}),
        Schema::Form => json!({"application/x-www-form-urlencoded": {"schema": {
            "type": "object",
            "properties": {
                "grant_type": {"type": "string", "const": "client_credentials"},
                "token": {"type": "string", "description": "The token to be revoked"},
            },
        }}}),
    }
}

/// One callback per profile goes to the listener that the account has registered.
fn callbacks(generator: &mut SchemaGenerator) -> Value {
    let body = generator.subschema_for::<CallbackBody<'static>>();
    json!({"outcome": {"{listener url}": {"post": {
        "summary": "The outcome of one profile, at least once; any 2xx acknowledges it",
        "requestBody": {"required": true, "content": {"application/json": {"schema": body}}},
        "responses": {"2XX": {"description": "Acknowledged"}},
    }}}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::endpoints;

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document = document(&endpoints());
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_call_is_in_it_once_and_resume_tells_by_callback() {
        let document = document(&endpoints());
        let operations: usize =
            document["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
        assert_eq!(operations, endpoints().len());
        let resume = &document["paths"]["/api/m2m/v1/devices/profile/actions/profile_resume"]["post"];
        assert!(resume["callbacks"]["outcome"].is_object());
    }
}
