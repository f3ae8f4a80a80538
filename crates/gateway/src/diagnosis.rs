//! `GET /_lambfold/v1/diagnosis?function=<name or ARN>&qualifier=<version or alias>`: why the
//! function's bootstrap would not run here, in words; nothing is started.

use crate::answer::{self, Answer};
use crate::gateway::Gateway;
use crate::{error, receive, scope};
use http::Method;
use http::request::Parts;
use hyper::body::Incoming;
use lambfold_api_model::{ApiError, query_pairs};
use lambfold_types::FunctionVersion;
use serde_json::json;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Looks at a version's code and layers: sentences, none when nothing is wrong, or why it could not
/// look.
pub type Diagnose = Box<
    dyn Fn(
            Arc<FunctionVersion>,
        ) -> Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send>>
        + Send
        + Sync,
>;

pub(crate) async fn answer(gateway: &Gateway, head: &Parts, body: Incoming) -> Answer {
    receive::drain(&head.headers, body);
    match run(gateway, head).await {
        Ok(findings) => answer::json(200, json!({ "Findings": findings }).to_string().into_bytes()),
        Err(error) => answer::error(&error),
    }
}

async fn run(gateway: &Gateway, head: &Parts) -> Result<Vec<String>, ApiError> {
    if head.method != Method::GET {
        let path = "/_lambfold/v1/diagnosis";
        return Err(ApiError::method_not_allowed(head.method.as_str(), path, &["GET"]));
    }
    let query = head.uri.query().unwrap_or_default();
    let find = |wanted: &str| query_pairs(query).find(|(name, _)| name == wanted);
    let Some((_, function)) = find("function") else {
        let message = "Query parameter function: name or ARN of a function is missing";
        return Err(ApiError::new("InvalidParameterValueException", message));
    };
    let qualifier = find("qualifier").map(|(_, qualifier)| qualifier);
    let scope = scope::of(&gateway.config.scope, &head.headers, query);
    let resolved = gateway.control.resolve_text(&scope, &function, qualifier.as_deref());
    let version = resolved.map_err(|error| error::control(&error))?.version;
    let Some(diagnose) = &gateway.tools.diagnose else {
        return Err(ApiError::not_built("Diagnosis of bootstraps"));
    };
    diagnose(version).await.map_err(|error| ApiError::new("ServiceException", error))
}
