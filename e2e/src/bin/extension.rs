//! An extension on the unmodified crate `lambda-extension`: prints what it is told. The variable
//! `EXTENSION_API` chooses what it subscribes to: `telemetry`, `logs`, or nothing.
#![allow(clippy::print_stdout)] // its output is what the logs are tested with

use lambda_extension::{
    Error, Extension, LambdaEvent, LambdaLog, LambdaTelemetry, NextEvent, SharedService, service_fn,
};

async fn on_event(event: LambdaEvent) -> Result<(), Error> {
    match event.next {
        NextEvent::Invoke(invoke) => {
            println!("ext invoke {} {}", invoke.request_id, invoke.invoked_function_arn);
        }
        NextEvent::Shutdown(shutdown) => {
            println!("ext shutdown {}", shutdown.shutdown_reason);
            // The crate would ask for yet another event.
            std::process::exit(0);
        }
    }
    Ok(())
}

async fn on_telemetry(records: Vec<LambdaTelemetry>) -> Result<(), Error> {
    for record in records {
        println!("ext telemetry {:?}", record.record);
    }
    Ok(())
}

async fn on_logs(records: Vec<LambdaLog>) -> Result<(), Error> {
    for record in records {
        println!("ext log {:?}", record.record);
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let extension = Extension::new().with_events_processor(service_fn(on_event));
    match std::env::var("EXTENSION_API").as_deref() {
        Ok("telemetry") => {
            let processor = SharedService::new(service_fn(on_telemetry));
            extension
                .with_telemetry_types(&["platform", "function"])
                .with_telemetry_processor(processor)
                .run()
                .await
        }
        Ok("logs") => {
            let processor = SharedService::new(service_fn(on_logs));
            extension
                .with_log_types(&["platform", "function"])
                .with_logs_processor(processor)
                .run()
                .await
        }
        _ => extension.run().await,
    }
}
