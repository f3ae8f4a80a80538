//! The sample events: a table of names, a file for each in `samples/`.

use crate::change::{Change, ChangeError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::io::Write as _;

/// How a source packs a part of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// A text.
    Base64,
    /// A JSON document, compressed first.
    Gzip,
}

/// A sample event, with the values of region us-east-1 and account 000000000000.
#[derive(Debug)]
pub struct Sample {
    /// What it is asked for by, for example `apigateway-v2`.
    pub name: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// The AWS service that sends such events.
    pub source: &'static str,
    text: &'static str,
    /// Places that the file has in plain and the source sends encoded; `*` is any name or element.
    encoded: &'static [(&'static str, Encoding)],
}

macro_rules! sample {
    ($name:literal, $description:literal, $source:literal $(, $encoded:expr)*) => {
        Sample {
            name: $name,
            description: $description,
            source: $source,
            text: include_str!(concat!("../samples/", $name, ".json")),
            encoded: &[$($encoded),*],
        }
    };
}

/// hello-world first, then what is looked for most.
static SAMPLES: &[Sample] = &[
    sample!("hello-world", "Three keys with three values", "Lambda's own test event"),
    sample!("apigateway-proxy", "A request through a REST API, payload format 1.0", "API Gateway"),
    sample!("apigateway-v2", "A request through an HTTP API, payload format 2.0", "API Gateway"),
    sample!("function-url", "A request to a function URL", "Lambda"),
    sample!("alb", "A request through a load balancer", "Elastic Load Balancing"),
    sample!(
        "alb-multi-value",
        "The same with multi-value headers switched on",
        "Elastic Load Balancing"
    ),
    sample!("apigateway-websocket", "A message over a WebSocket API", "API Gateway"),
    sample!(
        "apigateway-authorizer-token",
        "A REST API asks whether a token may pass",
        "API Gateway"
    ),
    sample!(
        "apigateway-authorizer-request",
        "A REST API asks whether a request may pass",
        "API Gateway"
    ),
    sample!(
        "apigateway-v2-authorizer",
        "An HTTP API asks whether a request may pass",
        "API Gateway"
    ),
    sample!("vpc-lattice", "A request through a service network", "VPC Lattice"),
    sample!("cloudfront-edge", "A viewer request at the edge", "CloudFront"),
    sample!("sqs", "Two messages of a queue", "SQS"),
    sample!("sns", "A notification of a topic", "SNS"),
    sample!("s3-put", "An object was stored", "S3"),
    sample!("s3-delete", "An object was deleted", "S3"),
    sample!("s3-batch-operations", "One task of a batch job over objects", "S3"),
    sample!("s3-object-lambda", "An object that is changed while it is read", "S3"),
    sample!(
        "dynamodb",
        "An insert, a change and a removal in a table's stream",
        "DynamoDB Streams"
    ),
    sample!(
        "kinesis",
        "Two records of a stream; their data is set in plain",
        "Kinesis",
        ("Records[*].kinesis.data", Encoding::Base64)
    ),
    sample!(
        "firehose",
        "Two records to transform; their data is set in plain",
        "Data Firehose",
        ("records[*].data", Encoding::Base64)
    ),
    sample!(
        "kafka-msk",
        "A record of a topic; key and value are set in plain",
        "Managed Streaming for Kafka",
        ("records.*[*].key", Encoding::Base64),
        ("records.*[*].value", Encoding::Base64)
    ),
    sample!(
        "kafka-self-managed",
        "The same from a cluster of one's own",
        "Kafka",
        ("records.*[*].key", Encoding::Base64),
        ("records.*[*].value", Encoding::Base64)
    ),
    sample!(
        "mq-activemq",
        "A message of an ActiveMQ queue; its data is set in plain",
        "Amazon MQ",
        ("messages[*].data", Encoding::Base64)
    ),
    sample!(
        "mq-rabbitmq",
        "A message of a RabbitMQ queue; its data is set in plain",
        "Amazon MQ",
        ("rmqMessagesByQueue.*[*].data", Encoding::Base64)
    ),
    sample!("documentdb", "A document was inserted", "DocumentDB change streams"),
    sample!("eventbridge", "An event of an application of one's own", "EventBridge"),
    sample!("schedule", "A rule's time has come", "EventBridge"),
    sample!("ec2-state-change", "An instance is running", "EC2 by EventBridge"),
    sample!("ecr-image-action", "An image was pushed", "ECR by EventBridge"),
    sample!("autoscaling-launch", "An instance was launched", "EC2 Auto Scaling by EventBridge"),
    sample!("codebuild-state-change", "A build succeeded", "CodeBuild by EventBridge"),
    sample!(
        "cloudwatch-logs",
        "Two lines of a subscription; awslogs.data is set in plain, and sent as gzip in base64",
        "CloudWatch Logs",
        ("awslogs.data", Encoding::Gzip)
    ),
    sample!("cloudwatch-alarm", "An alarm went off", "CloudWatch"),
    sample!("cloudformation-custom-resource", "A stack creates a resource", "CloudFormation"),
    sample!("secretsmanager-rotation", "The first step of a rotation", "Secrets Manager"),
    sample!("cognito-pre-signup", "Before somebody is signed up", "Cognito"),
    sample!("cognito-post-confirmation", "After somebody confirmed", "Cognito"),
    sample!("cognito-pre-authentication", "Before somebody is let in", "Cognito"),
    sample!("cognito-post-authentication", "After somebody was let in", "Cognito"),
    sample!("cognito-pre-token-generation", "Before a token is made", "Cognito"),
    sample!("cognito-custom-message", "Before a message is sent", "Cognito"),
    sample!("cognito-user-migration", "An unknown user, who may be known elsewhere", "Cognito"),
    sample!("ses", "A mail was received", "SES"),
    sample!("iot-rule", "What a rule selected from a device's message", "IoT Core"),
    sample!("iot-custom-authorizer", "A device asks to connect", "IoT Core"),
    sample!("codecommit", "A branch was pushed", "CodeCommit"),
    sample!("codedeploy-lifecycle-hook", "A deployment asks for a check", "CodeDeploy"),
    sample!("codepipeline-job", "A pipeline's action", "CodePipeline"),
    sample!("config-rule", "A resource changed, and a rule is asked", "Config"),
    sample!("lex-v2", "A bot's intent is to be fulfilled", "Lex V2"),
    sample!("connect-contact-flow", "A contact flow of a call", "Connect"),
    sample!("step-functions", "A task that waits for its token", "Step Functions"),
    sample!("appsync-resolver", "A field is resolved", "AppSync"),
    sample!("appsync-authorizer", "An API asks whether a token may pass", "AppSync"),
    sample!("alexa-skill", "An intent of a skill", "Alexa"),
    sample!("alexa-smart-home", "A directive to a device", "Alexa"),
    sample!("bedrock-agent", "An agent's action group", "Bedrock"),
];

impl Sample {
    /// All of them, `hello-world` first.
    #[must_use]
    pub fn all() -> &'static [Self] {
        SAMPLES
    }

    /// The one of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        SAMPLES.iter().find(|sample| sample.name == name)
    }

    /// The event, changed in the order of `changes`. Places that the source sends encoded are
    /// changed in plain and encoded then.
    ///
    /// # Errors
    /// When a change leads nowhere.
    pub fn generate(&self, changes: &[Change]) -> Result<Value, ChangeError> {
        // A test reads every file.
        let mut event: Value = serde_json::from_str(self.text).unwrap_or_default();
        for change in changes {
            change.apply(&mut event)?;
        }
        for (path, encoding) in self.encoded {
            let steps: Vec<_> = path.split(['.', '[']).map(|s| s.trim_end_matches(']')).collect();
            encode(&mut event, &steps, *encoding);
        }
        Ok(event)
    }
}

fn encode(value: &mut Value, steps: &[&str], encoding: Encoding) {
    let Some((step, rest)) = steps.split_first() else {
        let plain = match &*value {
            // A record without a key, or a value that was deleted, is null and stays so.
            Value::Null => return,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        *value = match encoding {
            Encoding::Base64 => STANDARD.encode(plain),
            Encoding::Gzip => STANDARD.encode(gzip(plain.as_bytes())),
        }
        .into();
        return;
    };
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| encode(value, rest, encoding)),
        Value::Object(map) if *step == "*" => {
            map.values_mut().for_each(|value| encode(value, rest, encoding));
        }
        Value::Object(map) => {
            if let Some(value) = map.get_mut(*step) {
                encode(value, rest, encoding);
            }
        }
        _ => {}
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::io::Read as _;
    use std::path::Path;

    fn generate(name: &str, changes: &[&str]) -> Value {
        let changes: Vec<_> = changes.iter().map(|c| Change::parse(c).expect("change")).collect();
        Sample::named(name).expect(name).generate(&changes).expect("an event")
    }

    #[test]
    fn every_sample_is_json_and_has_its_file_and_its_words() {
        let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples"));
        let files: BTreeSet<_> = files
            .expect("samples")
            .map(|file| file.expect("file").file_name().into_string().expect("name"))
            .collect();
        let names: BTreeSet<_> = SAMPLES.iter().map(|s| format!("{}.json", s.name)).collect();
        assert_eq!(names, files);
        assert_eq!((names.len(), SAMPLES[0].name), (SAMPLES.len(), "hello-world"));
        assert!(SAMPLES.len() >= 35);
        for sample in SAMPLES {
            let event: Value = serde_json::from_str(sample.text).expect(sample.name);
            assert!(event.as_object().is_some_and(|event| !event.is_empty()), "{}", sample.name);
            assert!(!sample.description.is_empty() && !sample.source.is_empty());
            assert!(!format!("{}{}", sample.description, sample.source).contains("://"));
        }
    }

    /// Region and account are those that a server of ours has by default.
    #[test]
    fn arns_are_of_one_region_and_account() {
        for sample in SAMPLES {
            for part in sample.text.split("arn:aws:").skip(1) {
                let mut parts = part.split(':').skip(1);
                let (region, account) = (parts.next(), parts.next());
                assert!(matches!(region, Some("us-east-1" | "")), "{}: {part:.60}", sample.name);
                assert!(
                    matches!(account, Some("000000000000" | "")),
                    "{}: {part:.60}",
                    sample.name
                );
            }
        }
    }

    #[test]
    fn log_data_is_compressed_after_it_was_changed() {
        let path = "awslogs.data.logEvents[0].message=changed";
        let event = generate("cloudwatch-logs", &[path]);
        let data = event["awslogs"]["data"].as_str().expect("a text");
        let data = STANDARD.decode(data).expect("base64");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&data[..]).read_to_string(&mut text).expect("gzip");
        let inner: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(inner["logEvents"][0]["message"], "changed");
        assert_eq!(inner["messageType"], "DATA_MESSAGE");
        assert_eq!(event, generate("cloudwatch-logs", &[path]), "the same every time");
    }

    #[test]
    fn data_of_records_is_encoded_everywhere() {
        let event = generate("kinesis", &["Records[1].kinesis.data=x"]);
        assert_eq!(event["Records"][1]["kinesis"]["data"], "eA==");
        let event = generate("kafka-msk", &["records[\"orders-0\"][0].key:=null"]);
        assert_eq!(event["records"]["orders-0"][0]["key"], Value::Null);
        let value = event["records"]["orders-0"][0]["value"].as_str().expect("a text");
        assert_eq!(STANDARD.decode(value).expect("base64"), br#"{"order": 42, "quantity": 2}"#);
        let event = generate("mq-rabbitmq", &[]);
        let data = event["rmqMessagesByQueue"]["orders::/"][0]["data"].as_str().expect("a text");
        assert!(STANDARD.decode(data).is_ok());
    }
}
