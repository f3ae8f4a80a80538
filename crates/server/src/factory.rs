//! The adapters of the pool, to the environments and to the control plane: each knows only its
//! own side of it.

use lambfold_control::{Allocator, ConcurrencyPlan, VersionAllocation};
use lambfold_environment::Launcher;
use lambfold_pool::{
    AllocationFailure, Concurrency, CreateError, Environment, EnvironmentFactory, OnAnswer, OnEnd,
    Pool,
};
use lambfold_types::{FunctionName, FunctionVersion, InitializationType, Invocation, Scope};
use std::sync::Arc;

/// Makes the pool's environments with a launcher.
pub(crate) struct Factory(pub(crate) Arc<Launcher>);

/// An execution environment as the pool sees it.
pub(crate) struct Adapter(Arc<lambfold_environment::Environment>);

impl Environment for Adapter {
    fn begin(&self, invocation: Invocation, answer: OnAnswer, ended: OnEnd) {
        self.0.begin(invocation, answer, ended);
    }

    fn is_initialized(&self) -> bool {
        self.0.is_initialized()
    }

    fn retire(&self) {
        self.0.retire();
    }
}

impl EnvironmentFactory for Factory {
    type Environment = Adapter;

    async fn create(
        &self,
        version: Arc<FunctionVersion>,
        initialization: InitializationType,
    ) -> Result<Arc<Adapter>, CreateError> {
        let function = version.name.to_string();
        match self.0.launch_as(version, initialization).await {
            Ok(environment) => Ok(Arc::new(Adapter(environment))),
            Err(source) => {
                let source: Box<dyn std::error::Error + Send + Sync> = Box::new(source);
                tracing::error!(
                    function,
                    error = crate::run::chain(source.as_ref()),
                    "could not create an execution environment"
                );
                Err(CreateError { function, source })
            }
        }
    }
}

/// Lets the pool do what the control plane plans.
pub(crate) struct Allocations(pub(crate) Arc<Pool<Factory>>);

impl Allocator for Allocations {
    fn apply(&self, plan: ConcurrencyPlan) {
        let ConcurrencyPlan { scope, name, reserved, provisioned } = plan;
        self.0.set_concurrency(&scope, &name, Concurrency { reserved, provisioned });
    }

    fn allocations(&self, scope: &Scope, name: &FunctionName) -> Vec<VersionAllocation> {
        let failure = |failure| match failure {
            AllocationFailure::Init => lambfold_control::AllocationFailure::Init,
            other => lambfold_control::AllocationFailure::Host(other.to_string()),
        };
        let allocations = self.0.allocations(scope, name).into_iter();
        allocations
            .map(|one| VersionAllocation {
                version: one.version.version,
                allocated: one.allocated,
                failure: one.failure.map(failure),
            })
            .collect()
    }
}
