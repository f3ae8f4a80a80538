//! `PUT /_lambfold/v1/layers?arn=<layer version ARN>`: a layer under an ARN of any account, so
//! that functions that use a public layer find it here.

use crate::answer::{self, Answer};
use crate::gateway::{Gateway, base_url};
use crate::receive::{self, ReceiveError};
use http::Method;
use http::request::Parts;
use hyper::body::Incoming;
use lambfold_api_model::{ApiError, query_pairs};
use lambfold_control::request;
use lambfold_types::LayerVersionArn;
use lambfold_types::limits::DIRECT_UPLOAD_BYTES;

pub(crate) async fn answer(gateway: &Gateway, head: &Parts, body: Incoming) -> Answer {
    match run(gateway, head, body).await {
        Ok(answer) => answer,
        Err(ReceiveError::Lost(answer)) => answer,
        Err(ReceiveError::TooLarge) => answer::error(&ApiError::new(
            "RequestEntityTooLargeException",
            format!("Zipped size must be smaller than {DIRECT_UPLOAD_BYTES} bytes"),
        )),
    }
}

async fn run(gateway: &Gateway, head: &Parts, body: Incoming) -> Result<Answer, ReceiveError> {
    if head.method != Method::PUT {
        receive::drain(&head.headers, body);
        let path = "/_lambfold/v1/layers";
        let error = ApiError::method_not_allowed(head.method.as_str(), path, &["PUT"]);
        return Ok(answer::error(&error));
    }
    let query = head.uri.query().unwrap_or_default();
    let arn = query_pairs(query).find(|(name, _)| name == "arn").map(|(_, arn)| arn);
    let arn = match LayerVersionArn::parse(arn.as_deref().unwrap_or_default()) {
        Ok(arn) => arn,
        Err(error) => {
            receive::drain(&head.headers, body);
            let message = format!("Query parameter arn: {error}");
            return Ok(answer::error(&ApiError::new("InvalidParameterValueException", message)));
        }
    };
    let limit = usize::try_from(DIRECT_UPLOAD_BYTES).unwrap_or(usize::MAX);
    let zip = gateway.read(head, body, limit).await?;
    let content =
        request::Code { zip_file: Some(request::Blob(zip.bytes.clone())), ..Default::default() };
    let request = request::ImportLayer {
        alias_arn: arn.to_string(),
        content,
        description: None,
        compatible_runtimes: None,
        compatible_architectures: None,
        license_info: None,
    };
    Ok(match gateway.control.import_layer(request).await {
        Ok(mut layer) => {
            let link = gateway.tickets.link(&base_url(head), &layer.content.digest);
            layer.content.location = Some(link);
            match serde_json::to_vec(&layer) {
                Ok(body) => answer::json(201, body),
                Err(_) => answer::text(500, "the answer cannot be written\n"),
            }
        }
        Err(error) => answer::error(&crate::error::control(&error)),
    })
}
