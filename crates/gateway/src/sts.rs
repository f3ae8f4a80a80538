//! What clients ask of STS on the way: who am I.

use crate::answer::{self, Answer};
use lambfold_api_model::query_pairs;
use lambfold_types::{RequestId, Scope};

/// Answers a request of the query protocol; `parameters` is the form or the query string.
pub(crate) fn answer(scope: &Scope, parameters: &str, id: RequestId) -> Answer {
    let action = query_pairs(parameters).find(|(name, _)| name == "Action");
    match action.as_ref().map(|(_, action)| action.as_str()) {
        Some("GetCallerIdentity") => {
            let partition = scope.region.partition().as_str();
            let account = &scope.account;
            answer::xml(
                200,
                format!(
                    "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                     <GetCallerIdentityResult>\
                     <Arn>arn:{partition}:iam::{account}:root</Arn>\
                     <UserId>{account}</UserId><Account>{account}</Account>\
                     </GetCallerIdentityResult>\
                     <ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata>\
                     </GetCallerIdentityResponse>"
                ),
            )
        }
        action => {
            let action = escape(action.unwrap_or_default());
            let mut answer = answer::xml(
                400,
                format!(
                    "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidAction</Code>\
                     <Message>Lambfold answers no action {action} of the query protocol; of STS it \
                     has GetCallerIdentity</Message></Error>\
                     <RequestId>{id}</RequestId></ErrorResponse>"
                ),
            );
            answer::set(&mut answer, answer::ERROR_TYPE, "InvalidAction");
            answer
        }
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars().take(100) {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push('\u{FFFD}'),
            c => escaped.push(c),
        }
    }
    escaped
}
