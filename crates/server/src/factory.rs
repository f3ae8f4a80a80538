//! The adapter between the pool and the environments: each knows only its own side of it.

use lambfold_environment::Launcher;
use lambfold_pool::{CreateError, Environment, EnvironmentFactory, OnAnswer, OnEnd};
use lambfold_types::{FunctionVersion, InitializationType, Invocation};
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
