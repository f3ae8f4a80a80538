use crate::golden;
use crate::service::{Service, base64, create_body, zip};
use crate::shapes;
use serde_json::{Value, json};

const FUNCTIONS: &str = "/2015-03-31/functions";
const LAYERS: &str = "/2018-10-31/layers";
const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

/// What `Location` links to.
async fn download(service: &Service, link: &str) -> crate::client::Response {
    let target = link.strip_prefix(&format!("http://{}", service.address)).expect(link);
    service.call("GET", target, "", b"").await
}

#[tokio::test]
async fn the_life_of_a_function() {
    let service = Service::start().await;
    let created = service.create().await;
    golden::check("create-function", &created);
    shapes::fits("CreateFunction", &created.json());

    let got = service.call("GET", &format!("{FUNCTIONS}/f"), "", b"").await;
    golden::check("get-function", &got);
    shapes::fits("GetFunction", &got.json());
    let link = got.json()["Code"]["Location"].as_str().expect("a link").to_owned();
    let zipped = download(&service, &link).await;
    assert_eq!((zipped.status, zipped.header("content-type")), (200, Some("application/zip")));
    assert_eq!(zipped.body, zip());
    let forged = link.replace("token=", "token=0");
    assert_eq!(download(&service, &forged).await.status, 403);

    for target in ["f", "function:f", "000000000000:function:f", ARN, &ARN.replace(':', "%3A")] {
        let path = format!("{FUNCTIONS}/{target}/configuration");
        let got = service.call("GET", &path, "", b"").await;
        assert_eq!(got.status, 200, "{target}: {}", got.text());
        shapes::fits("GetFunctionConfiguration", &got.json());
    }

    let path = format!("{FUNCTIONS}/f/configuration");
    let body = r#"{"Timeout":5,"Environment":{"Variables":{"A1":"b"}},"Description":"d"}"#;
    let updated = service.json("PUT", &path, body).await;
    golden::check("update-function-configuration", &updated);
    shapes::fits("UpdateFunctionConfiguration", &updated.json());

    let path = format!("{FUNCTIONS}/f/code");
    let body = json!({"ZipFile": base64(&zip()), "Publish": true}).to_string();
    let updated = service.json("PUT", &path, &body).await;
    assert_eq!(updated.status, 200, "{}", updated.text());
    shapes::fits("UpdateFunctionCode", &updated.json());

    let published = service.json("POST", &format!("{FUNCTIONS}/f/versions"), "{}").await;
    golden::check("publish-version", &published);
    shapes::fits("PublishVersion", &published.json());

    let versions = service.call("GET", &format!("{FUNCTIONS}/f/versions"), "", b"").await;
    golden::check("list-versions-by-function", &versions);
    shapes::fits("ListVersionsByFunction", &versions.json());

    let listed = service.call("GET", &format!("{FUNCTIONS}/"), "", b"").await;
    golden::check("list-functions", &listed);
    shapes::fits("ListFunctions", &listed.json());

    let settings = service.call("GET", "/2016-08-19/account-settings", "", b"").await;
    golden::check("get-account-settings", &settings);
    shapes::fits("GetAccountSettings", &settings.json());

    let deleted = service.call("DELETE", &format!("{FUNCTIONS}/f"), "", b"").await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    let gone = service.call("GET", &format!("{FUNCTIONS}/f"), "", b"").await;
    golden::check("function-not-found", &gone);
}

#[tokio::test]
async fn lists_are_paged() {
    let service = Service::start().await;
    for name in ["a", "b", "c"] {
        let created = service.json("POST", FUNCTIONS, &create_body(name)).await;
        assert_eq!(created.status, 201, "{}", created.text());
    }
    let mut names = Vec::new();
    let mut marker = String::new();
    loop {
        let target = format!("{FUNCTIONS}?MaxItems=2{marker}");
        let page = service.call("GET", &target, "", b"").await.json();
        for function in page["Functions"].as_array().expect("functions") {
            names.push(function["FunctionName"].as_str().expect("name").to_owned());
        }
        match page["NextMarker"].as_str() {
            Some(next) => {
                let encoded: String = next.bytes().map(|b| format!("%{b:02X}")).collect();
                marker = format!("&Marker={encoded}");
            }
            None => break,
        }
    }
    assert_eq!(names, ["a", "b", "c"]);
}

#[tokio::test]
async fn the_life_of_a_layer() {
    let service = Service::start().await;
    let body = json!({
        "Content": {"ZipFile": base64(&zip())},
        "CompatibleRuntimes": ["provided.al2023"],
        "Description": "d",
        "LicenseInfo": "MIT",
    });
    let path = format!("{LAYERS}/l/versions");
    let published = service.json("POST", &path, &body.to_string()).await;
    golden::check("publish-layer-version", &published);
    shapes::fits("PublishLayerVersion", &published.json());
    let arn = published.json()["LayerVersionArn"].as_str().expect("arn").to_owned();

    let got = service.call("GET", &format!("{path}/1"), "", b"").await;
    golden::check("get-layer-version", &got);
    shapes::fits("GetLayerVersion", &got.json());
    let link = got.json()["Content"]["Location"].as_str().expect("a link").to_owned();
    assert_eq!(download(&service, &link).await.body, zip());

    let by_arn = format!("{LAYERS}?find=LayerVersion&Arn={}", arn.replace(':', "%3A"));
    let got = service.call("GET", &by_arn, "", b"").await;
    assert_eq!(got.json()["LayerVersionArn"], arn, "{}", got.text());

    let listed = service.call("GET", LAYERS, "", b"").await;
    golden::check("list-layers", &listed);
    shapes::fits("ListLayers", &listed.json());
    let listed = service.call("GET", &path, "", b"").await;
    golden::check("list-layer-versions", &listed);
    shapes::fits("ListLayerVersions", &listed.json());

    for _ in 0..2 {
        let deleted = service.call("DELETE", &format!("{path}/1"), "", b"").await;
        assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    }
    let gone = service.call("GET", &format!("{path}/1"), "", b"").await;
    golden::check("layer-version-not-found", &gone);
}

#[tokio::test]
async fn a_layer_is_imported_under_a_foreign_arn() {
    let service = Service::start().await;
    let arn = "arn:aws:lambda:eu-west-1:111122223333:layer:bash:8";
    let target = format!("/_lambfold/v1/layers?arn={arn}");
    let imported = service.call("PUT", &target, "content-type: application/zip\r\n", &zip()).await;
    golden::check("import-layer", &imported);
    let got = service.call("GET", &format!("{LAYERS}?find=LayerVersion&Arn={arn}"), "", b"").await;
    assert_eq!(got.status, 200, "{}", got.text());

    let bad = service.call("PUT", "/_lambfold/v1/layers?arn=x", "", &zip()).await;
    assert_eq!((bad.status, bad.error_type()), (400, "InvalidParameterValueException"));
    let bad = service.call("PUT", &target.replace(":8", ":9"), "", b"no zip").await;
    assert_eq!((bad.status, bad.error_type()), (400, "InvalidParameterValueException"));
    assert_eq!(service.call("POST", &target, "", &zip()).await.status, 405);
}

#[tokio::test]
async fn tags() {
    let service = Service::start().await;
    service.create().await;
    let path = format!("/2017-03-31/tags/{}", ARN.replace(':', "%3A"));
    let tagged = service.json("POST", &path, r#"{"Tags":{"a":"1","b":"2"}}"#).await;
    assert_eq!((tagged.status, tagged.body.len()), (204, 0), "{}", tagged.text());
    let untagged = service.call("DELETE", &format!("{path}?tagKeys=a&tagKeys=x"), "", b"").await;
    assert_eq!(untagged.status, 204);
    let listed = service.call("GET", &path, "", b"").await;
    golden::check("list-tags", &listed);
    shapes::fits("ListTags", &listed.json());
    let missing = service.call("DELETE", &path, "", b"").await;
    golden::check("untag-without-keys", &missing);
}

#[tokio::test]
async fn errors_in_aws_words() {
    let service = Service::start().await;
    service.create().await;
    golden::check("function-exists", &service.create().await);
    let body = create_body("f").replace("\"f\"", "\"f!\"");
    golden::check("invalid-name", &service.json("POST", FUNCTIONS, &body).await);
    let timeout = r#"{"Timeout":"3"}"#;
    let path = format!("{FUNCTIONS}/f/configuration");
    golden::check("wrong-type", &service.json("PUT", &path, timeout).await);
    golden::check("not-json", &service.json("PUT", &path, "{").await);
    let not_built = "/2025-11-30/capacity-providers";
    golden::check("not-built", &service.call("GET", not_built, "", b"").await);
    golden::check("unknown-path", &service.call("GET", "/2015-03-31/nothing", "", b"").await);
    golden::check("wrong-method", &service.call("PATCH", &path, "", b"").await);
    let other = ARN.replace("us-east-1", "eu-west-1");
    let other = service.call("GET", &format!("{FUNCTIONS}/{other}"), "", b"").await;
    golden::check("other-region", &other);
    let other = ARN.replace("000000000000", "111122223333");
    let other = service.call("GET", &format!("{FUNCTIONS}/{other}"), "", b"").await;
    golden::check("other-account", &other);
}

#[tokio::test]
async fn every_operation_answers() {
    let service = Service::start().await;
    let mut client = service.client().await;
    for operation in lambfold_api_model::Model::get().operations() {
        let target = operation.uri.replace(['{', '}'], "");
        let response = client.call(&operation.method, &target, "", b"").await;
        let expected: &[u16] = match lambfold_api_model::Built::find(&operation.name) {
            Some(_) => &[200, 204, 400, 404],
            None => &[400, 501],
        };
        assert!(expected.contains(&response.status), "{}: {}", operation.name, response.text());
        if response.status == 501 {
            assert!(response.text().contains(&*operation.name), "{}", response.text());
            assert_eq!(response.error_type(), "NotImplementedException");
        }
    }
}

#[tokio::test]
async fn the_region_is_the_signature_s() {
    let service = Service::start().await;
    let signed = |region: &str| {
        format!(
            "authorization: AWS4-HMAC-SHA256 Credential=AK/20260102/{region}/lambda/aws4_request, SignedHeaders=host, Signature=0\r\n"
        )
    };
    let china = signed("cn-north-1");
    let body = create_body("f").replace("arn:aws:", "arn:aws-cn:");
    let created = service.call("POST", FUNCTIONS, &china, body.as_bytes()).await;
    let arn = "arn:aws-cn:lambda:cn-north-1:000000000000:function:f";
    assert_eq!(created.json()["FunctionArn"], arn, "{}", created.text());
    let path = format!("{FUNCTIONS}/f");
    assert_eq!(service.call("GET", &path, &china, b"").await.status, 200);
    assert_eq!(service.call("GET", &path, "", b"").await.status, 404);
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let who = b"Action=GetCallerIdentity&Version=2011-06-15";
    let who = service.call("POST", "/", &format!("{china}{form}"), who).await;
    assert!(who.text().contains("<Arn>arn:aws-cn:iam::000000000000:root</Arn>"), "{}", who.text());
}

#[tokio::test]
async fn a_request_over_the_limit_of_code_is_refused() {
    let service = Service::start().await;
    let limit = 70_167_211;
    let fill = |size: usize| {
        let mut body = create_body("f").into_bytes();
        body.resize(size, b' ');
        body
    };
    let taken = service.call("POST", FUNCTIONS, "", &fill(limit - 1)).await;
    assert_eq!(taken.status, 201, "{}", taken.text());
    let refused = service.call("POST", FUNCTIONS, "", &fill(limit)).await;
    golden::check("request-too-large", &refused);
}

#[tokio::test]
async fn what_is_around() {
    let service = Service::start().await;
    assert_eq!(service.call("GET", "/health/live", "", b"").await.text(), "live\n");
    let ready = service.call("GET", "/health/ready", "", b"").await;
    assert_eq!((ready.status, &*ready.text()), (200, "ready\n"));
    let lesser = Service::with(Default::default(), Some("less than usual".to_owned())).await;
    let ready = lesser.call("GET", "/health/ready", "", b"").await;
    assert_eq!((ready.status, &*ready.text()), (200, "ready\nwarning: less than usual\n"));
    service.gateway.set_ready(false);
    assert_eq!(service.call("GET", "/health/ready", "", b"").await.status, 503);
    let metrics = service.call("GET", "/metrics", "", b"").await;
    assert!(metrics.text().contains("lambfold_environments 2\n"), "{}", metrics.text());
    assert!(metrics.text().contains("lambfold_http_connections 1\n"), "{}", metrics.text());
    let who = service.call("GET", "/?Action=GetCallerIdentity&Version=2011-06-15", "", b"").await;
    golden::check("get-caller-identity", &who);
    let other = service.call("GET", "/?Action=ListUsers&Version=2010-05-08", "", b"").await;
    golden::check("unknown-action", &other);
    let target = "x-amz-target: DynamoDB_20120810.ListTables\r\n";
    golden::check("unknown-target", &service.call("POST", "/", target, b"{}").await);
    let head = service.call("HEAD", "/health/live", "", b"").await;
    assert_eq!(head.status, 200);
    let ids: Vec<Value> =
        vec![json!(who.header("x-amzn-requestid")), json!(other.header("x-amzn-requestid"))];
    assert_ne!(ids[0], ids[1]);
}
