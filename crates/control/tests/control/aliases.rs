//! Aliases and what resolves through them.

use crate::fixture::{World, name, scope};
use lambfold_control::answer::Alias;
use lambfold_control::{ControlError, ErrorKind};
use lambfold_types::{Qualifier, Version};
use serde_json::{Value, json};

const ARN: &str = "arn:aws:lambda:eu-central-1:123456789012:function";

impl World {
    /// A function `f` with versions 1 to `count`.
    pub(crate) async fn with_versions(count: u32) -> Self {
        let world = Self::new().await;
        world.create("f").await;
        for number in 1..=count {
            world.configure("f", json!({"Description": number.to_string()})).await.unwrap();
            world.publish("f", json!({})).await.unwrap();
        }
        world
    }

    pub(crate) async fn create_alias(&self, more: Value) -> Result<Alias, ControlError> {
        let mut request = json!({"FunctionName": "f", "Name": "live", "FunctionVersion": "1"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.control.create_alias(&scope(), serde_json::from_value(request).unwrap()).await
    }

    pub(crate) async fn update_alias(&self, more: Value) -> Result<Alias, ControlError> {
        let mut request = json!({"FunctionName": "f", "Name": "live"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.control.update_alias(&scope(), serde_json::from_value(request).unwrap()).await
    }

    fn get_alias(&self, name: &str) -> Result<Alias, ControlError> {
        let request = json!({"FunctionName": "f", "Name": name});
        self.control.get_alias(&scope(), &serde_json::from_value(request).unwrap())
    }

    pub(crate) async fn delete_alias(&self, name: &str) -> Result<(), ControlError> {
        let request = json!({"FunctionName": "f", "Name": name});
        self.control.delete_alias(&scope(), serde_json::from_value(request).unwrap()).await
    }

    fn list_aliases(&self, more: Value) -> Vec<String> {
        let mut request = json!({"FunctionName": "f"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = serde_json::from_value(request).unwrap();
        let list = self.control.list_aliases(&scope(), &request).unwrap();
        list.aliases.into_iter().map(|alias| alias.name).collect()
    }

    fn resolved(&self, text: &str) -> (Version, String) {
        let resolved = self.control.resolve_text(&scope(), text, None).unwrap();
        (resolved.version.version, resolved.invoked_arn)
    }
}

fn refusal(result: Result<Alias, ControlError>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind(), error.message().unwrap())
}

#[tokio::test]
async fn an_alias_leads_to_its_version_and_keeps_its_arn() {
    let world = World::with_versions(2).await;
    let alias = world.create_alias(json!({"Description": "for all"})).await.unwrap();
    assert_eq!(alias.alias_arn, format!("{ARN}:f:live"));
    assert_eq!(world.get_alias("live").unwrap(), alias);
    let live = (Version::Published(1), format!("{ARN}:f:live"));
    assert_eq!(world.resolved("f:live"), live);
    assert_eq!(world.resolved(&format!("{ARN}:f:live")), live);
    let qualifier = Qualifier::parse("live").unwrap();
    let version = world.control.resolve(&scope(), &name("f"), Some(&qualifier)).unwrap();
    assert_eq!(version.version, Version::Published(1));
    let configuration = world.get("f", Some("live")).unwrap();
    assert_eq!((configuration.version.as_str(), configuration.description.as_str()), ("1", "1"));
    assert_eq!(configuration.function_arn, format!("{ARN}:f:live"));

    let moved = world.update_alias(json!({"FunctionVersion": "2"})).await.unwrap();
    assert_eq!((moved.function_version.as_str(), moved.description.as_str()), ("2", "for all"));
    assert_ne!(moved.revision_id, alias.revision_id);
    assert_eq!(world.resolved("f:live").0, Version::Published(2));
    let latest = json!({"Name": "edge", "FunctionVersion": "$LATEST"});
    world.create_alias(latest).await.unwrap();
    assert_eq!(world.resolved("f:edge").0, Version::Latest);

    let world = world.restart().await;
    assert_eq!(world.resolved("f:live").0, Version::Published(2));
    assert_eq!(world.get_alias("live").unwrap(), moved);
    world.delete_alias("live").await.unwrap();
    world.delete_alias("live").await.unwrap();
    let error = world.control.resolve_text(&scope(), "f:live", None).unwrap_err();
    assert_eq!(error.to_string(), format!("Function not found: {ARN}:f:live"));
    let world = world.restart().await;
    assert!(world.get_alias("live").is_err() && world.get_alias("edge").is_ok());
}

#[tokio::test]
async fn weights_divide_invocations_one_by_one() {
    let world = World::with_versions(2).await;
    let routing =
        |weight: f64| json!({"RoutingConfig": {"AdditionalVersionWeights": {"2": weight}}});
    world.create_alias(routing(0.25)).await.unwrap();
    let share = || {
        let second = (0..4_000).filter(|_| world.resolved("f:live").0 == Version::Published(2));
        second.count()
    };
    // ten standard deviations to either side
    assert!((700..1_300).contains(&share()));
    world.update_alias(routing(1.0)).await.unwrap();
    assert_eq!(share(), 4_000);
    world.update_alias(routing(0.0)).await.unwrap();
    assert_eq!(share(), 0);
    for nothing in [json!({}), json!({"AdditionalVersionWeights": {}})] {
        world.update_alias(routing(0.5)).await.unwrap();
        let alias = world.update_alias(json!({"RoutingConfig": nothing})).await.unwrap();
        assert_eq!(alias.routing_config, None);
        world.update_alias(routing(0.5)).await.unwrap();
        let alias = world.update_alias(json!({"Description": "d"})).await.unwrap();
        assert!(alias.routing_config.is_some(), "what is not named stays");
    }
}

#[tokio::test]
async fn what_is_refused_in_which_words() {
    use ErrorKind::{
        InvalidParameterValue, PreconditionFailed, ResourceConflict, ResourceNotFound,
    };
    let world = World::with_versions(2).await;
    let weights = |weights: Value| json!({"AdditionalVersionWeights": weights});
    let cases = [
        (
            json!({"RoutingConfig": weights(json!({"1": 0.2, "2": 0.3}))}),
            InvalidParameterValue,
            "Number of items in AdditionalVersionWeights cannot be greater than 1".to_owned(),
        ),
        (
            json!({"RoutingConfig": weights(json!({"1": 0.2}))}),
            InvalidParameterValue,
            "Invalid function version 1. Function version 1 is already included in routing configuration.".to_owned(),
        ),
        (
            json!({"FunctionVersion": "$LATEST", "RoutingConfig": weights(json!({"1": 0.2}))}),
            InvalidParameterValue,
            "$LATEST is not supported for an alias pointing to more than 1 version".to_owned(),
        ),
        (
            json!({"FunctionVersion": "10"}),
            ResourceNotFound,
            format!("Function not found: {ARN}:f:10"),
        ),
        (
            json!({"RoutingConfig": weights(json!({"10": 0.2}))}),
            ResourceNotFound,
            format!("Function not found: {ARN}:f:10"),
        ),
        (
            json!({"FunctionName": "g"}),
            ResourceNotFound,
            format!("Function not found: {ARN}:g:1"),
        ),
    ];
    for (request, kind, message) in cases {
        assert_eq!(
            refusal(world.create_alias(request.clone()).await),
            (kind, message),
            "{request}"
        );
    }
    assert!(world.list_aliases(json!({})).is_empty());
    let alias = world.create_alias(json!({})).await.unwrap();
    assert_eq!(
        refusal(world.create_alias(json!({})).await),
        (ResourceConflict, format!("Alias already exists: {ARN}:f:live"))
    );
    assert_eq!(
        refusal(world.get_alias("none")),
        (ResourceNotFound, format!("Cannot find alias arn: {ARN}:f:none"))
    );
    assert_eq!(
        refusal(world.update_alias(json!({"Name": "none"})).await),
        (ResourceNotFound, format!("Alias not found: {ARN}:f:none"))
    );
    let stale = json!({"RevisionId": "00000000-0000-0000-0000-000000000000"});
    assert_eq!(refusal(world.update_alias(stale).await).0, PreconditionFailed);
    world.update_alias(json!({"RevisionId": alias.revision_id})).await.unwrap();
}

#[tokio::test]
async fn lists_are_sorted_filtered_and_paged() {
    let world = World::with_versions(2).await;
    for (alias, version) in [("c", "1"), ("a", "2"), ("b", "1")] {
        world.create_alias(json!({"Name": alias, "FunctionVersion": version})).await.unwrap();
    }
    let routing = json!({"AdditionalVersionWeights": {"2": 0.1}});
    world.update_alias(json!({"Name": "c", "RoutingConfig": routing})).await.unwrap();
    assert_eq!(world.list_aliases(json!({})), ["a", "b", "c"]);
    assert_eq!(world.list_aliases(json!({"FunctionVersion": "1"})), ["b", "c"]);
    assert_eq!(world.list_aliases(json!({"FunctionVersion": "2"})), ["a", "c"]);
    assert_eq!(world.list_aliases(json!({"FunctionVersion": "$LATEST"})), [""; 0]);
    let page = json!({"FunctionName": "f", "MaxItems": 2});
    let page = serde_json::from_value(page).unwrap();
    let first = world.control.list_aliases(&scope(), &page).unwrap();
    assert_eq!(first.aliases.len(), 2);
    assert_eq!(world.list_aliases(json!({"Marker": first.next_marker})), ["c"]);
}

#[tokio::test]
async fn a_version_with_aliases_stays_and_a_function_takes_them_along() {
    let world = World::with_versions(2).await;
    world.create_alias(json!({})).await.unwrap();
    let routing = json!({"AdditionalVersionWeights": {"2": 0.1}});
    world.create_alias(json!({"Name": "canary", "RoutingConfig": routing})).await.unwrap();
    let error = world.delete("f", Some("1")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Unable to delete version because the following aliases reference it: [canary, live]"
    );
    let error = world.delete("f", Some("2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceConflict);
    world.delete_alias("canary").await.unwrap();
    world.delete("f", Some("2")).await.unwrap();
    world.delete("f", None).await.unwrap();
    world.create("f").await;
    assert!(world.list_aliases(json!({})).is_empty());
    let world = world.restart().await;
    assert!(world.list_aliases(json!({})).is_empty());
}

#[tokio::test]
async fn changes_of_the_function_leave_its_aliases_alone() {
    let world = World::with_versions(1).await;
    world.create_alias(json!({})).await.unwrap();
    let version = world.control.resolve_text(&scope(), "f:live", None).unwrap().version;
    world.configure("f", json!({"Timeout": 9})).await.unwrap();
    world.publish("f", json!({})).await.unwrap();
    world.update_code("f", &crate::fixture::code("new"), json!({"Publish": true})).await.unwrap();
    let now = world.control.resolve_text(&scope(), "f:live", None).unwrap().version;
    assert!(std::sync::Arc::ptr_eq(&version, &now), "its environments are kept");
    assert_eq!(world.get("f", None).unwrap().version, "$LATEST");
}
