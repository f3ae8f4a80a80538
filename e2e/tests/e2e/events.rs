//! The sample events, against what others wrote down of their shapes: each is read by the type that
//! the crate `aws_lambda_events` has for it, and written again. A name of ours that does not come
//! back is one that the type does not know.

use super::harness::lambfold;
use aws_lambda_events as aws;
use serde_json::Value;
use std::process::Command;

fn run(args: &[&str]) -> Vec<u8> {
    let output = Command::new(lambfold()).arg("events").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

type Again = fn(&[u8]) -> Result<Value, serde_json::Error>;

fn again<T: serde::Serialize + serde::de::DeserializeOwned>(
    json: &[u8],
) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_slice::<T>(json)?)
}

/// Each name with its type, and the names that the type leaves out although AWS documents them.
#[rustfmt::skip]
const TYPES: &[(&str, Again, &[&str])] = &[
    ("apigateway-proxy", again::<aws::apigw::ApiGatewayProxyRequest>, &[".requestContext.extendedRequestId"]),
    ("apigateway-v2", again::<aws::apigw::ApiGatewayV2httpRequest>, &[]),
    ("function-url", again::<aws::lambda_function_urls::LambdaFunctionUrlRequest>, &[".routeKey", ".requestContext.routeKey", ".requestContext.stage"]),
    ("apigateway-websocket", again::<aws::apigw::ApiGatewayWebsocketProxyRequest>, &[]),
    ("apigateway-authorizer-token", again::<aws::apigw::ApiGatewayCustomAuthorizerRequest>, &[]),
    ("apigateway-authorizer-request", again::<aws::apigw::ApiGatewayCustomAuthorizerRequestTypeRequest>, &[".requestContext.domainName", ".requestContext.domainPrefix", ".requestContext.extendedRequestId", ".requestContext.protocol", ".requestContext.requestTime", ".requestContext.requestTimeEpoch", ".requestContext.identity.userAgent"]),
    ("apigateway-v2-authorizer", again::<aws::apigw::ApiGatewayV2CustomAuthorizerV2Request>, &[]),
    ("alb", again::<aws::alb::AlbTargetGroupRequest>, &[]),
    ("alb-multi-value", again::<aws::alb::AlbTargetGroupRequest>, &[]),
    ("vpc-lattice", again::<aws::vpc_lattice::VpcLatticeRequestV2>, &[]),
    ("sqs", again::<aws::sqs::SqsEvent>, &[]),
    ("sns", again::<aws::sns::SnsEvent>, &[]),
    ("s3-put", again::<aws::s3::S3Event>, &[]),
    ("s3-delete", again::<aws::s3::S3Event>, &[]),
    ("s3-batch-operations", again::<aws::s3::batch_job::S3BatchJobEvent>, &[]),
    ("s3-object-lambda", again::<aws::s3::object_lambda::S3ObjectLambdaEvent>, &[]),
    ("dynamodb", again::<aws::dynamodb::Event>, &[]),
    ("kinesis", again::<aws::kinesis::KinesisEvent>, &[]),
    ("firehose", again::<aws::firehose::KinesisFirehoseEvent>, &[]),
    ("kafka-msk", again::<aws::kafka::KafkaEvent>, &[]),
    ("kafka-self-managed", again::<aws::kafka::KafkaEvent>, &[]),
    ("mq-activemq", again::<aws::activemq::ActiveMqEvent>, &[]),
    ("mq-rabbitmq", again::<aws::rabbitmq::RabbitMqEvent>, &[]),
    ("documentdb", again::<aws::documentdb::DocumentDbEvent>, &[".events[0].event.fullDocument"]),
    ("eventbridge", again::<aws::eventbridge::EventBridgeEvent>, &[]),
    ("schedule", again::<aws::eventbridge::EventBridgeEvent>, &[]),
    ("ec2-state-change", again::<aws::eventbridge::EventBridgeEvent>, &[]),
    ("ecr-image-action", again::<aws::eventbridge::EventBridgeEvent>, &[]),
    ("autoscaling-launch", again::<aws::autoscaling::AutoScalingEvent>, &[]),
    ("codebuild-state-change", again::<aws::codebuild::CodeBuildEvent>, &[]),
    ("cloudwatch-logs", again::<aws::cloudwatch_logs::LogsEvent>, &[]),
    ("cloudwatch-alarm", again::<aws::cloudwatch_alarms::CloudWatchAlarm>, &[]),
    ("cloudformation-custom-resource", again::<aws::cloudformation::CloudFormationCustomResourceRequest>, &[]),
    ("secretsmanager-rotation", again::<aws::secretsmanager::SecretsManagerSecretRotationEvent>, &[]),
    ("cognito-pre-signup", again::<aws::cognito::CognitoEventUserPoolsPreSignup>, &[]),
    ("cognito-post-confirmation", again::<aws::cognito::CognitoEventUserPoolsPostConfirmation>, &[]),
    ("cognito-pre-authentication", again::<aws::cognito::CognitoEventUserPoolsPreAuthentication>, &[".request.userNotFound"]),
    ("cognito-post-authentication", again::<aws::cognito::CognitoEventUserPoolsPostAuthentication>, &[]),
    ("cognito-pre-token-generation", again::<aws::cognito::CognitoEventUserPoolsPreTokenGen>, &[]),
    ("cognito-custom-message", again::<aws::cognito::CognitoEventUserPoolsCustomMessage>, &[]),
    ("cognito-user-migration", again::<aws::cognito::CognitoEventUserPoolsMigrateUser>, &[]),
    ("ses", again::<aws::ses::SimpleEmailEvent>, &[]),
    ("iot-custom-authorizer", again::<aws::iot::IoTCoreCustomAuthorizerRequest>, &[]),
    ("codecommit", again::<aws::code_commit::CodeCommitEvent>, &[]),
    ("codedeploy-lifecycle-hook", again::<aws::codedeploy::CodeDeployLifecycleEvent>, &[]),
    ("codepipeline-job", again::<aws::codepipeline_job::CodePipelineJobEvent>, &[]),
    ("config-rule", again::<aws::config::ConfigEvent>, &[]),
    ("connect-contact-flow", again::<aws::connect::ConnectEvent>, &[".Details.ContactData.MediaStreams"]),
    ("appsync-resolver", again::<aws::appsync::AppSyncDirectResolverEvent>, &[".identity.claims", ".identity.defaultAuthStrategy", ".identity.groups", ".identity.issuer", ".identity.sub"]),
    ("appsync-authorizer", again::<aws::appsync::AppSyncLambdaAuthorizerRequest>, &[".requestHeaders"]),
    ("bedrock-agent", again::<aws::event::bedrock_agent_runtime::AgentEvent>, &[]),
];

/// Events that the crate has no type for: any JSON, or services it leaves out.
const WITHOUT_TYPE: &[&str] = &[
    "hello-world",
    "cloudfront-edge",
    "iot-rule",
    "lex-v2",
    "step-functions",
    "alexa-skill",
    "alexa-smart-home",
];

/// Paths of `event` that `again` does not have.
fn missing(event: &Value, again: &Value, path: &str, found: &mut Vec<String>) {
    match (event, again) {
        (Value::Object(event), Value::Object(again)) => {
            for (name, value) in event {
                let path = format!("{path}.{name}");
                // Names of headers are the same in any case.
                let other = again.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
                match other {
                    Some((_, other)) => missing(value, other, &path, found),
                    // Nothing, said and not said.
                    None if value.is_null() => {}
                    None if value.as_object().is_some_and(serde_json::Map::is_empty) => {}
                    None if value.as_array().is_some_and(Vec::is_empty) => {}
                    None => found.push(path),
                }
            }
        }
        (Value::Array(event), Value::Array(again)) => {
            for (number, value) in event.iter().enumerate() {
                match again.get(number) {
                    Some(other) => missing(value, other, &format!("{path}[{number}]"), found),
                    None => found.push(format!("{path}[{number}]")),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn samples_have_the_shapes_that_others_wrote_down() {
    let listed: Value = serde_json::from_slice(&run(&["list", "--output", "json"])).unwrap();
    let listed: Vec<_> =
        listed.as_array().unwrap().iter().map(|s| s["Name"].as_str().unwrap()).collect();
    assert_eq!(listed[0], "hello-world");
    let mut wrong = Vec::new();
    for name in &listed {
        let json = run(&["generate", name]);
        let event: Value = serde_json::from_slice(&json).unwrap();
        assert!(event.is_object(), "{name}");
        let Some((_, again, unknown)) = TYPES.iter().find(|(typed, ..)| typed == name) else {
            assert!(WITHOUT_TYPE.contains(name), "{name} is in neither list");
            continue;
        };
        match again(&json) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(again) => {
                let mut found = Vec::new();
                missing(&event, &again, "", &mut found);
                found.retain(|path| !unknown.contains(&path.as_str()));
                wrong.extend(found.iter().map(|path| format!("{name}: {path} is not known")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(listed.len(), TYPES.len() + WITHOUT_TYPE.len());
}
