//! Reserved and provisioned concurrency.

use crate::fixture::{World, name, scope, scope_in};
use lambfold_control::answer::ProvisionedConcurrency;
use lambfold_control::{
    AllocationFailure, Allocator, ConcurrencyPlan, ControlError, ErrorKind, VersionAllocation,
};
use lambfold_types::{FunctionName, Scope, Version};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const ARN: &str = "arn:aws:lambda:eu-central-1:123456789012:function";

/// Remembers the last plan, and says what a test wants it to say.
#[derive(Default)]
struct Fake {
    plans: Mutex<Vec<ConcurrencyPlan>>,
    says: Mutex<Vec<VersionAllocation>>,
}

impl Allocator for Fake {
    fn apply(&self, plan: ConcurrencyPlan) {
        self.plans.lock().unwrap().push(plan);
    }

    fn allocations(&self, _: &Scope, _: &FunctionName) -> Vec<VersionAllocation> {
        self.says.lock().unwrap().clone()
    }
}

impl Fake {
    fn of(world: &World) -> Arc<Self> {
        let fake = Arc::new(Self::default());
        world.control.set_allocator(fake.clone());
        fake
    }

    /// The last plan: what is reserved, and environments by version.
    fn plan(&self) -> (Option<u32>, Vec<(u64, u32)>) {
        let plan = self.plans.lock().unwrap().last().cloned().unwrap();
        let number = |version| match version {
            Version::Published(number) => number,
            Version::Latest => 0,
        };
        let provisioned = plan.provisioned.iter();
        (plan.reserved, provisioned.map(|(v, count)| (number(v.version), *count)).collect())
    }

    fn count(&self) -> usize {
        self.plans.lock().unwrap().len()
    }

    fn say(&self, allocated: &[(u64, u32)], failure: Option<AllocationFailure>) {
        *self.says.lock().unwrap() = allocated
            .iter()
            .map(|(number, allocated)| VersionAllocation {
                version: Version::Published(*number),
                allocated: *allocated,
                failure: failure.clone(),
            })
            .collect();
    }
}

impl World {
    async fn reserve(&self, function: &str, count: i64) -> Result<(), ControlError> {
        let request = json!({"FunctionName": function, "ReservedConcurrentExecutions": count});
        let request = serde_json::from_value(request).unwrap();
        let answer = self.control.put_function_concurrency(&scope(), request).await?;
        assert_eq!(answer.reserved_concurrent_executions.map(i64::from), Some(count));
        Ok(())
    }

    async fn unreserve(&self, function: &str) -> Result<(), ControlError> {
        let request = serde_json::from_value(json!({"FunctionName": function})).unwrap();
        self.control.delete_function_concurrency(&scope(), request).await
    }

    fn reserved(&self, function: &str) -> Value {
        let request = serde_json::from_value(json!({"FunctionName": function})).unwrap();
        let answer = self.control.get_function_concurrency(&scope(), &request).unwrap();
        serde_json::to_value(answer).unwrap()
    }

    async fn provision(
        &self,
        qualifier: &str,
        count: i64,
    ) -> Result<ProvisionedConcurrency, ControlError> {
        let request = json!({"FunctionName": "f", "Qualifier": qualifier, "ProvisionedConcurrentExecutions": count});
        let request = serde_json::from_value(request).unwrap();
        self.control.put_provisioned_concurrency(&scope(), request).await
    }

    fn provisioned(&self, qualifier: &str) -> Result<(u32, &'static str), ControlError> {
        let request = json!({"FunctionName": "f", "Qualifier": qualifier});
        let request = serde_json::from_value(request).unwrap();
        let answer = self.control.get_provisioned_concurrency(&scope(), &request)?;
        Ok((answer.allocated_provisioned_concurrent_executions, answer.status))
    }

    async fn unprovision(&self, function: &str, qualifier: &str) -> Result<(), ControlError> {
        let request = json!({"FunctionName": function, "Qualifier": qualifier});
        let request = serde_json::from_value(request).unwrap();
        self.control.delete_provisioned_concurrency(&scope(), request).await
    }

    fn unreserved(&self) -> u32 {
        let settings = self.control.get_account_settings(&scope());
        settings.account_limit.unreserved_concurrent_executions
    }
}

fn told<T: std::fmt::Debug>(result: Result<T, ControlError>) -> (ErrorKind, bool, String) {
    let error = result.unwrap_err();
    (error.kind(), error.is_typed(), error.message().unwrap())
}

const BELOW: &str = "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].";

#[tokio::test]
async fn reserving_changes_the_limits_and_nothing_else() {
    let world = World::with_versions(1).await;
    let fake = Fake::of(&world);
    assert_eq!(fake.count(), 0, "there is nothing to plan");
    let before = world.get("f", None).unwrap();
    let version = world.control.resolve(&scope(), &name("f"), None).unwrap();
    assert_eq!(world.reserved("f"), json!({}));
    world.reserve("f", 7).await.unwrap();
    assert_eq!(world.reserved("f"), json!({"ReservedConcurrentExecutions": 7}));
    assert_eq!((fake.plan(), world.unreserved()), ((Some(7), vec![]), 993));
    let get = serde_json::from_value(json!({"FunctionName": "f"})).unwrap();
    let function = world.control.get_function(&scope(), &get).unwrap();
    let concurrency = serde_json::to_value(function.concurrency).unwrap();
    assert_eq!(concurrency, json!({"ReservedConcurrentExecutions": 7}));
    assert_eq!(world.get("f", None).unwrap(), before);
    let now = world.control.resolve(&scope(), &name("f"), None).unwrap();
    assert!(Arc::ptr_eq(&version, &now), "its environments are kept");

    let world = world.restart().await;
    let fake = Fake::of(&world);
    assert_eq!(fake.plan(), (Some(7), vec![]), "planned again at the start");
    world.reserve("f", 0).await.unwrap();
    assert_eq!((fake.plan(), world.unreserved()), ((Some(0), vec![]), 1_000));
    world.unreserve("f").await.unwrap();
    assert_eq!((world.reserved("f"), fake.plan()), (json!({}), (None, vec![])));
    world.reserve("f", 5).await.unwrap();
    world.delete("f", None).await.unwrap();
    assert_eq!((fake.plan(), world.unreserved()), ((None, vec![]), 1_000));
}

#[tokio::test]
async fn a_hundred_executions_stay_for_all() {
    let world = World::new().await;
    world.create("f").await;
    world.create("g").await;
    let below = (ErrorKind::InvalidParameterValue, false, BELOW.to_owned());
    assert_eq!(told(world.reserve("f", 901).await), below);
    world.reserve("f", 900).await.unwrap();
    assert_eq!(told(world.reserve("g", 1).await), below);
    world.reserve("g", 0).await.unwrap();
    world.reserve("f", 899).await.unwrap();
    world.reserve("g", 1).await.unwrap();
    let elsewhere = world.control.get_account_settings(&scope_in("eu-west-1"));
    assert_eq!(elsewhere.account_limit.unreserved_concurrent_executions, 1_000);
    let missing = format!("Function not found: {ARN}:none:$LATEST");
    let missing = (ErrorKind::ResourceNotFound, true, missing);
    assert_eq!(told(world.reserve("none", 1).await), missing);
    assert_eq!(told(world.unreserve("none").await), missing);
    let (kind, _, message) = told(world.reserve("f:1", 1).await);
    assert_eq!(kind, ErrorKind::InvalidParameterValue);
    assert!(message.starts_with("This operation is permitted on Lambda functions only."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_reservations_never_take_more_than_there_is() {
    let world = World::new().await;
    for number in 0..10 {
        world.create(&format!("f{number}")).await;
    }
    let tasks = (0..10).map(|number| {
        let control = world.control.clone();
        let request =
            json!({"FunctionName": format!("f{number}"), "ReservedConcurrentExecutions": 200});
        let request = serde_json::from_value(request).unwrap();
        tokio::spawn(async move { control.put_function_concurrency(&scope(), request).await })
    });
    let mut winners = 0;
    for task in tasks.collect::<Vec<_>>() {
        winners += u32::from(task.await.unwrap().is_ok());
    }
    assert_eq!((winners, world.unreserved()), (4, 200));
}

#[tokio::test]
async fn what_is_provisioned_is_told_as_it_comes() {
    let world = World::with_versions(1).await;
    let fake = Fake::of(&world);
    let answer = world.provision("1", 5).await.unwrap();
    assert_eq!(
        serde_json::to_value(&answer).unwrap(),
        json!({
            "RequestedProvisionedConcurrentExecutions": 5,
            "AvailableProvisionedConcurrentExecutions": 0,
            "AllocatedProvisionedConcurrentExecutions": 0,
            "Status": "IN_PROGRESS",
            "LastModified": "2026-01-02T03:04:05+0000",
        })
    );
    assert_eq!((fake.plan(), world.unreserved()), ((None, vec![(1, 5)]), 995));
    assert_eq!(world.provisioned("1").unwrap(), (0, "IN_PROGRESS"));
    fake.say(&[(1, 3)], None);
    assert_eq!(world.provisioned("1").unwrap(), (3, "IN_PROGRESS"));
    fake.say(&[(1, 3)], Some(AllocationFailure::Host("no room".to_owned())));
    assert_eq!(world.provisioned("1").unwrap(), (3, "FAILED"));
    fake.say(&[(1, 5)], None);
    assert_eq!(world.provisioned("1").unwrap(), (5, "READY"));
    assert_eq!(world.provision("1", 2).await.unwrap().status, "IN_PROGRESS");
    assert_eq!(world.provisioned("1").unwrap(), (2, "READY"));

    let world = world.restart().await;
    let fake = Fake::of(&world);
    assert_eq!(fake.plan(), (None, vec![(1, 2)]));
    world.unprovision("f", "1").await.unwrap();
    world.unprovision("f", "1").await.unwrap();
    assert_eq!(fake.plan(), (None, vec![]));
    assert_eq!(
        told(world.provisioned("1")),
        (
            ErrorKind::ProvisionedConcurrencyConfigNotFound,
            true,
            "No Provisioned Concurrency Config found for this function".to_owned()
        )
    );
    world.provision("1", 1).await.unwrap();
    world.delete("f", Some("1")).await.unwrap();
    assert_eq!((fake.plan(), world.unreserved()), ((None, vec![]), 1_000));
    let world = world.restart().await;
    assert_eq!(Fake::of(&world).count(), 0);
}

#[tokio::test]
async fn it_moves_with_its_alias_and_is_divided_by_its_weights() {
    let world = World::with_versions(3).await;
    let fake = Fake::of(&world);
    world.create_alias(json!({})).await.unwrap();
    world.provision("live", 10).await.unwrap();
    assert_eq!(fake.plan(), (None, vec![(1, 10)]));
    fake.say(&[(1, 10)], None);
    assert_eq!(world.provisioned("live").unwrap(), (10, "READY"));
    world.update_alias(json!({"FunctionVersion": "2"})).await.unwrap();
    assert_eq!(fake.plan(), (None, vec![(2, 10)]));
    // As long as the old version's are there, they are what is allocated.
    fake.say(&[(2, 4), (1, 10)], None);
    assert_eq!(world.provisioned("live").unwrap(), (10, "IN_PROGRESS"));
    fake.say(&[(2, 10)], None);
    assert_eq!(world.provisioned("live").unwrap(), (10, "READY"));

    let routing = json!({"RoutingConfig": {"AdditionalVersionWeights": {"3": 0.25}}});
    world.update_alias(routing).await.unwrap();
    assert_eq!(fake.plan(), (None, vec![(2, 7), (3, 3)]));
    assert_eq!(
        told(world.provision("live", 11).await),
        (
            ErrorKind::InvalidParameterValue,
            true,
            "Alias with weights can not be used with Provisioned Concurrency".to_owned()
        )
    );
    let plans = fake.count();
    world.create_alias(json!({"Name": "other"})).await.unwrap();
    world.update_alias(json!({"Name": "other", "FunctionVersion": "3"})).await.unwrap();
    assert_eq!(fake.count(), plans, "other aliases are no matter");
    world.delete_alias("live").await.unwrap();
    assert_eq!((fake.plan(), world.unreserved()), ((None, vec![]), 1_000));
}

#[tokio::test]
async fn two_kinds_of_it_fit_together_or_are_refused() {
    let world = World::with_versions(2).await;
    world.reserve("f", 2).await.unwrap();
    world.provision("1", 2).await.unwrap();
    assert_eq!(world.unreserved(), 998, "it is part of what is reserved");
    assert_eq!(
        told(world.reserve("f", 1).await),
        (
            ErrorKind::InvalidParameterValue,
            true,
            " ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency [2].".to_owned()
        )
    );
    assert_eq!(
        told(world.provision("2", 1).await),
        (
            ErrorKind::InvalidParameterValue,
            true,
            "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function".to_owned()
        )
    );
    world.unreserve("f").await.unwrap();
    assert_eq!(world.unreserved(), 998);
    let greater = "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [998].";
    let invalid = ErrorKind::InvalidParameterValue;
    assert_eq!(told(world.provision("2", 999).await), (invalid, false, greater.to_owned()));
    let below = "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].";
    assert_eq!(told(world.provision("2", 899).await), (invalid, false, below.to_owned()));
    world.provision("2", 898).await.unwrap();

    world.create_alias(json!({})).await.unwrap();
    assert_eq!(told(world.provision("live", 1).await).0, ErrorKind::ResourceConflict);
    world.unprovision("f", "1").await.unwrap();
    world.provision("live", 1).await.unwrap();
    assert_eq!(told(world.provision("1", 1).await).0, ErrorKind::ResourceConflict);
}

#[tokio::test]
async fn only_what_is_published_can_be_provisioned() {
    let world = World::with_versions(1).await;
    let unpublished =
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
    let invalid = |message: &str| (ErrorKind::InvalidParameterValue, true, message.to_owned());
    let missing = |message: String| (ErrorKind::ResourceNotFound, true, message);
    assert_eq!(told(world.provision("$LATEST", 1).await), invalid(unpublished));
    world.create_alias(json!({"Name": "edge", "FunctionVersion": "$LATEST"})).await.unwrap();
    assert_eq!(told(world.provision("edge", 1).await), invalid(unpublished));
    let latest = "The function resource provided must be an alias or a published version.";
    assert_eq!(told(world.provisioned("$LATEST")), invalid(latest));
    assert_eq!(told(world.unprovision("f", "$LATEST").await), invalid(latest));
    let alias = format!("Cannot find alias arn: {ARN}:f:none");
    assert_eq!(told(world.provision("none", 1).await), missing(alias.clone()));
    assert_eq!(told(world.provisioned("none")), missing(alias.clone()));
    assert_eq!(told(world.unprovision("f", "none").await), missing(alias));
    let version = format!("Function not found: {ARN}:f:10");
    assert_eq!(told(world.provision("10", 1).await), missing(version.clone()));
    assert_eq!(told(world.provisioned("10")), missing(version.clone()));
    assert_eq!(told(world.unprovision("f", "10").await), missing(version));
    let function = format!("Function not found: {ARN}:g:1");
    assert_eq!(told(world.unprovision("g", "1").await), missing(function));
    let alias = format!("Cannot find alias arn: {ARN}:g:none");
    assert_eq!(told(world.unprovision("g", "none").await), missing(alias));
    let list = |function: &str, more: Value| {
        let mut request = json!({"FunctionName": function});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = serde_json::from_value(request).unwrap();
        world.control.list_provisioned_concurrency(&scope(), &request)
    };
    let function = format!("Function not found: {ARN}:g");
    assert_eq!(told(list("g", json!({}))), missing(function));
    let empty = serde_json::to_value(list("f", json!({})).unwrap()).unwrap();
    assert_eq!(empty, json!({"ProvisionedConcurrencyConfigs": []}));

    world.create_alias(json!({"Name": "live"})).await.unwrap();
    world.provision("live", 2).await.unwrap();
    let error = told(world.update_alias(json!({"FunctionVersion": "$LATEST"})).await);
    assert_eq!(error, invalid(unpublished));
    world.publish("f", json!({})).await.unwrap();
    let item = serde_json::to_value(list("f", json!({})).unwrap()).unwrap();
    let item = &item["ProvisionedConcurrencyConfigs"][0];
    assert_eq!(item["FunctionArn"], format!("{ARN}:f:live"));
    assert_eq!(item["RequestedProvisionedConcurrentExecutions"], 2);
}
