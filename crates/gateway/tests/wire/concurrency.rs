//! Aliases, reserved and provisioned concurrency over the wire.

use crate::golden;
use crate::service::Service;
use crate::shapes;

const FUNCTION: &str = "/2015-03-31/functions/f";
const RESERVED: &str = "/2017-10-31/functions/f/concurrency";

async fn with_versions() -> Service {
    let service = Service::start().await;
    assert_eq!(service.create().await.status, 201);
    for description in ["one", "two"] {
        let body = format!(r#"{{"Description":"{description}"}}"#);
        let updated = service.json("PUT", &format!("{FUNCTION}/configuration"), &body).await;
        assert_eq!(updated.status, 200, "{}", updated.text());
        let published = service.json("POST", &format!("{FUNCTION}/versions"), "{}").await;
        assert_eq!(published.status, 201, "{}", published.text());
    }
    service
}

#[tokio::test]
async fn the_life_of_an_alias() {
    let service = with_versions().await;
    let aliases = format!("{FUNCTION}/aliases");
    let live = format!("{aliases}/live");
    let body = r#"{"Name":"live","FunctionVersion":"1","RoutingConfig":{"AdditionalVersionWeights":{"2":0.5}}}"#;
    let created = service.json("POST", &aliases, body).await;
    golden::check("create-alias", &created);
    shapes::fits("CreateAlias", &created.json());
    golden::check("alias-exists", &service.json("POST", &aliases, body).await);
    let got = service.call("GET", &live, "", b"").await;
    golden::check("get-alias", &got);
    shapes::fits("GetAlias", &got.json());

    let invoke = format!("{FUNCTION}/invocations?Qualifier=live");
    let mut versions = std::collections::BTreeSet::new();
    while versions.len() < 2 {
        let answer = service.json("POST", &invoke, "{}").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        versions.insert(answer.header("x-amz-executed-version").unwrap().to_owned());
    }
    assert_eq!(versions.into_iter().collect::<Vec<_>>(), ["1", "2"]);
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:f:live";
    let seen = service.fakes.seen.lock().unwrap().clone();
    assert!(seen.iter().all(|invocation| &*invocation.invoked_function_arn == arn));

    let body = r#"{"FunctionVersion":"2","RoutingConfig":{},"Description":"moved"}"#;
    let updated = service.json("PUT", &live, body).await;
    golden::check("update-alias", &updated);
    shapes::fits("UpdateAlias", &updated.json());
    let listed = service.call("GET", &format!("{aliases}?FunctionVersion=2"), "", b"").await;
    golden::check("list-aliases", &listed);
    shapes::fits("ListAliases", &listed.json());
    let version = service.call("DELETE", &format!("{FUNCTION}?Qualifier=2"), "", b"").await;
    golden::check("delete-version-with-alias", &version);
    let deleted = service.call("DELETE", &live, "", b"").await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    golden::check("alias-not-found", &service.call("GET", &live, "", b"").await);
    golden::check("update-alias-not-found", &service.json("PUT", &live, "{}").await);
    let missing = service.json("POST", &invoke, "{}").await;
    assert_eq!((missing.status, missing.error_type()), (404, "ResourceNotFoundException"));
}

#[tokio::test]
async fn weights_that_are_refused() {
    let service = with_versions().await;
    let aliases = format!("{FUNCTION}/aliases");
    let create = async |name: &str, weights: &str| {
        let body = format!(
            r#"{{"Name":"{name}","FunctionVersion":"1","RoutingConfig":{{"AdditionalVersionWeights":{weights}}}}}"#
        );
        service.json("POST", &aliases, &body).await
    };
    golden::check("alias-weight-too-high", &create("a", r#"{"2":2.0}"#).await);
    golden::check("alias-weight-too-low", &create("a", r#"{"2":-1}"#).await);
    golden::check("alias-weight-of-latest", &create("a", r#"{"$LATEST":0.5}"#).await);
    golden::check("alias-name-of-digits", &create("12", "{}").await);
    let body = r#"{"Name":"a","FunctionVersion":"$LATEST","RoutingConfig":{"AdditionalVersionWeights":{"1":0.5}}}"#;
    golden::check("alias-of-latest-and-another", &service.json("POST", &aliases, body).await);
}

#[tokio::test]
async fn reserved_concurrency() {
    let service = with_versions().await;
    let put = async |count: i64| {
        let body = format!(r#"{{"ReservedConcurrentExecutions":{count}}}"#);
        service.json("PUT", RESERVED, &body).await
    };
    golden::check("put-function-concurrency", &put(5).await);
    golden::check("reserved-too-much", &put(901).await);
    golden::check("reserved-negative", &put(-1).await);
    let get = "/2019-09-30/functions/f/concurrency";
    let got = service.call("GET", get, "", b"").await;
    assert_eq!((got.status, got.text().as_str()), (200, r#"{"ReservedConcurrentExecutions":5}"#));
    let function = service.call("GET", FUNCTION, "", b"").await.json();
    assert_eq!(function["Concurrency"]["ReservedConcurrentExecutions"], 5);
    shapes::fits("GetFunction", &function);
    let deleted = service.call("DELETE", RESERVED, "", b"").await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    let got = service.call("GET", get, "", b"").await;
    assert_eq!((got.status, got.text().as_str()), (200, "{}"));
    let missing = RESERVED.replace("/f/", "/g/");
    let missing = service.json("PUT", &missing, r#"{"ReservedConcurrentExecutions":1}"#).await;
    golden::check("reserve-function-not-found", &missing);
}

#[tokio::test]
async fn provisioned_concurrency() {
    let service = with_versions().await;
    let config = "/2019-09-30/functions/f/provisioned-concurrency";
    let of = |qualifier: &str| format!("{config}?Qualifier={qualifier}");
    let put = async |qualifier: &str, count: i64| {
        let body = format!(r#"{{"ProvisionedConcurrentExecutions":{count}}}"#);
        service.json("PUT", &of(qualifier), &body).await
    };
    let answer = put("1", 5).await;
    golden::check("put-provisioned-concurrency", &answer);
    shapes::fits("PutProvisionedConcurrencyConfig", &answer.json());
    let got = service.call("GET", &of("1"), "", b"").await;
    assert_eq!(got.status, 200);
    shapes::fits("GetProvisionedConcurrencyConfig", &got.json());
    let listed = service.call("GET", &format!("{config}?List=ALL"), "", b"").await;
    golden::check("list-provisioned-concurrency", &listed);
    shapes::fits("ListProvisionedConcurrencyConfigs", &listed.json());
    golden::check("provisioned-none", &put("1", 0).await);
    golden::check("provisioned-latest", &put("$LATEST", 1).await);
    golden::check("provisioned-too-much", &put("2", 900).await);
    golden::check("provisioned-no-alias", &put("live", 1).await);
    let deleted = service.call("DELETE", &of("1"), "", b"").await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    golden::check("provisioned-not-found", &service.call("GET", &of("1"), "", b"").await);
}
