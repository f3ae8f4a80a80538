//! Control-plane operations: routed and validated by the service model, run by crate control.

use crate::answer::{self, Answer};
use crate::gateway::{Gateway, base_url};
use crate::receive::{self, ReceiveError, Received};
use crate::{error, scope};
use bytes::Bytes;
use http::request::Parts;
use hyper::body::Incoming;
use lambfold_api_model::{ApiError, Built, Input, Model, Request, Routed};
use lambfold_control::request::{self, Blob};
use lambfold_types::Scope;
use lambfold_types::limits::{CODE_REQUEST_BYTES, SYNC_REQUEST_BYTES};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A body of this size and more is read as JSON on a blocking thread, bytes.
const LARGE: usize = 256 * 1024;

pub(crate) async fn answer(gateway: &Gateway, head: Parts, body: Incoming) -> Answer {
    let query = head.uri.query().unwrap_or_default();
    let routed = match Model::get().route(head.method.as_str(), head.uri.path(), query) {
        Ok(routed) => routed,
        Err(error) => {
            receive::drain(&head.headers, body);
            return answer::error(&error);
        }
    };
    let operation = routed.operation;
    let limit = match Built::find(&operation.name) {
        // AWS: "must be smaller than".
        Some(Built::CreateFunction | Built::UpdateFunctionCode | Built::PublishLayerVersion) => {
            CODE_REQUEST_BYTES - 1
        }
        _ => SYNC_REQUEST_BYTES,
    };
    let body = match gateway.read(&head, body, limit).await {
        Ok(body) => body,
        Err(ReceiveError::TooLarge) => {
            let smaller = if limit == SYNC_REQUEST_BYTES { limit } else { CODE_REQUEST_BYTES };
            let name = &operation.name;
            let message =
                format!("Request must be smaller than {smaller} bytes for the {name} operation");
            return answer::error(&ApiError::new("RequestEntityTooLargeException", message));
        }
        Err(ReceiveError::Lost(answer)) => return answer,
    };
    let scope = scope::of(&gateway.config.scope, &head.headers, query).into_owned();
    let base = base_url(&head);
    let input = match collect(head, routed, body).await {
        Ok(input) => input,
        Err(error) => return answer::error(&error),
    };
    let Some(built) = Built::find(&operation.name) else {
        return answer::error(&ApiError::not_built(&operation.name));
    };
    match run(gateway, &scope, built, input, &base).await {
        Ok(Some(body)) => answer::json(operation.status, body),
        Ok(None) => answer::empty(204),
        Err(error) => answer::error(&error),
    }
}

/// Collects and checks the input; a large body on a blocking thread.
async fn collect(head: Parts, routed: Routed, body: Received) -> Result<Input, ApiError> {
    let large = body.bytes.len() >= LARGE;
    let work = move || {
        let query = head.uri.query().unwrap_or_default();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        Request { routed, query, header: &header, body: &body.bytes }.input()
    };
    if !large {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(broken()))
}

fn broken() -> ApiError {
    ApiError::new("ServiceException", "An error occurred and the request cannot be processed.")
}

/// The operation's own request. The model has checked types and required members, so that a
/// mismatch is a disagreement between two of our tables.
fn typed<T: DeserializeOwned>(input: &mut Input) -> Result<T, ApiError> {
    let members = Value::Object(std::mem::take(&mut input.members));
    serde_json::from_value(members).map_err(|error| {
        tracing::error!(%error, operation = %input.operation.name, "an input does not fit");
        broken()
    })
}

fn blob(input: &mut Input, path: &str) -> Option<Blob> {
    input.blobs.remove(path).map(|bytes| Blob(Bytes::from(bytes)))
}

fn body(answer: &impl Serialize) -> Result<Option<Vec<u8>>, ApiError> {
    match serde_json::to_vec(answer) {
        Ok(body) => Ok(Some(body)),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            Err(broken())
        }
    }
}

/// Runs a built operation; `None` is an answer without a body (204).
async fn run(
    gateway: &Gateway,
    scope: &Scope,
    operation: Built,
    mut input: Input,
    base: &str,
) -> Result<Option<Vec<u8>>, ApiError> {
    let control = &gateway.control;
    let failed = |error| error::control(&error);
    let link = |digest| Some(gateway.tickets.link(base, digest));
    let input = &mut input;
    match operation {
        Built::CreateFunction => {
            let mut request: request::CreateFunction = typed(input)?;
            request.code.zip_file = blob(input, "Code.ZipFile");
            body(&control.create_function(scope, request).await.map_err(failed)?)
        }
        Built::GetFunction => {
            let mut function = control.get_function(scope, &typed(input)?).map_err(failed)?;
            function.code.location = link(&function.code.digest);
            body(&function)
        }
        Built::GetFunctionConfiguration => {
            body(&control.get_function_configuration(scope, &typed(input)?).map_err(failed)?)
        }
        Built::ListFunctions => {
            body(&control.list_functions(scope, &typed(input)?).map_err(failed)?)
        }
        Built::UpdateFunctionCode => {
            let mut request: request::UpdateFunctionCode = typed(input)?;
            request.code.zip_file = blob(input, "ZipFile");
            body(&control.update_function_code(scope, request).await.map_err(failed)?)
        }
        Built::UpdateFunctionConfiguration => {
            let request = typed(input)?;
            body(&control.update_function_configuration(scope, request).await.map_err(failed)?)
        }
        Built::DeleteFunction => {
            control.delete_function(scope, typed(input)?).await.map_err(failed)?;
            Ok(None)
        }
        Built::PublishVersion => {
            body(&control.publish_version(scope, typed(input)?).await.map_err(failed)?)
        }
        Built::ListVersionsByFunction => {
            body(&control.list_versions_by_function(scope, &typed(input)?).map_err(failed)?)
        }
        Built::CreateAlias => {
            body(&control.create_alias(scope, typed(input)?).await.map_err(failed)?)
        }
        Built::GetAlias => body(&control.get_alias(scope, &typed(input)?).map_err(failed)?),
        Built::ListAliases => body(&control.list_aliases(scope, &typed(input)?).map_err(failed)?),
        Built::UpdateAlias => {
            body(&control.update_alias(scope, typed(input)?).await.map_err(failed)?)
        }
        Built::DeleteAlias => {
            control.delete_alias(scope, typed(input)?).await.map_err(failed)?;
            Ok(None)
        }
        Built::PutFunctionConcurrency => {
            body(&control.put_function_concurrency(scope, typed(input)?).await.map_err(failed)?)
        }
        Built::GetFunctionConcurrency => {
            body(&control.get_function_concurrency(scope, &typed(input)?).map_err(failed)?)
        }
        Built::DeleteFunctionConcurrency => {
            control.delete_function_concurrency(scope, typed(input)?).await.map_err(failed)?;
            Ok(None)
        }
        Built::PutProvisionedConcurrencyConfig => {
            body(&control.put_provisioned_concurrency(scope, typed(input)?).await.map_err(failed)?)
        }
        Built::GetProvisionedConcurrencyConfig => {
            body(&control.get_provisioned_concurrency(scope, &typed(input)?).map_err(failed)?)
        }
        Built::ListProvisionedConcurrencyConfigs => {
            body(&control.list_provisioned_concurrency(scope, &typed(input)?).map_err(failed)?)
        }
        Built::DeleteProvisionedConcurrencyConfig => {
            control.delete_provisioned_concurrency(scope, typed(input)?).await.map_err(failed)?;
            Ok(None)
        }
        Built::PublishLayerVersion => {
            let mut request: request::PublishLayerVersion = typed(input)?;
            request.content.zip_file = blob(input, "Content.ZipFile");
            let mut layer = control.publish_layer_version(scope, request).await.map_err(failed)?;
            layer.content.location = link(&layer.content.digest);
            body(&layer)
        }
        Built::GetLayerVersion => {
            let mut layer = control.get_layer_version(scope, &typed(input)?).map_err(failed)?;
            layer.content.location = link(&layer.content.digest);
            body(&layer)
        }
        Built::GetLayerVersionByArn => {
            let mut layer = control.get_layer_version_by_arn(&typed(input)?).map_err(failed)?;
            layer.content.location = link(&layer.content.digest);
            body(&layer)
        }
        Built::ListLayers => body(&control.list_layers(scope, &typed(input)?).map_err(failed)?),
        Built::ListLayerVersions => {
            body(&control.list_layer_versions(scope, &typed(input)?).map_err(failed)?)
        }
        Built::DeleteLayerVersion => {
            control.delete_layer_version(scope, &typed(input)?).await.map_err(failed)?;
            Ok(None)
        }
        Built::ListTags => body(&control.list_tags(scope, &typed(input)?).map_err(failed)?),
        Built::TagResource => {
            control.tag_resource(scope, typed(input)?).await.map_err(failed)?;
            Ok(None)
        }
        Built::UntagResource => {
            control.untag_resource(scope, typed(input)?).await.map_err(failed)?;
            Ok(None)
        }
        Built::GetAccountSettings => body(&control.get_account_settings(scope)),
        // Their paths are taken before this table is asked; a trailing slash leads here.
        Built::Invoke => Err(ApiError::unknown_operation("POST", "…/invocations/")),
        Built::InvokeWithResponseStream => {
            Err(ApiError::unknown_operation("POST", "…/response-streaming-invocations/"))
        }
    }
}
