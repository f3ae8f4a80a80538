//! The runtime's loop: next event, hand it over, answer; one per event that is handled at a time.

use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use lambfold_runtime_client::{Client, Error, FunctionError, Invocation, workers_from_env};

use crate::config::{Config, Mode};
use crate::event::HttpEvent;
use crate::function::{self, Function};
use crate::home::Home;
use crate::log;
use crate::page::{Page, posted};

const USER_AGENT: &str = concat!("lambfold-php/", env!("CARGO_PKG_VERSION"));

/// Runs the PHP runtime until the platform ends it. Returns only if it cannot go on; why stands in
/// the log.
pub fn run() -> ExitCode {
    if let Err(error) = try_run() {
        log::error(&error);
    }
    ExitCode::FAILURE
}

fn try_run() -> Result<(), Error> {
    let mut client = client()?;
    let workers = workers_from_env()?;
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => return Err(client.fail_init(&error.to_function_error())),
    };
    let home = match Home::create(&config) {
        Ok(home) => Arc::new(home),
        Err(error) => {
            let message = format!("the runtime's folder in /tmp cannot be made: {error}");
            return Err(client.fail_init(&FunctionError::new("Runtime.StartError", message)));
        }
    };
    if workers == 1 {
        return Worker::new(client, config, home)?.work();
    }
    let (stopped, first_stop) = mpsc::channel();
    for _ in 0..workers {
        let (stopped, config, home) = (stopped.clone(), config.clone(), home.clone());
        let client = self::client()?;
        thread::spawn(move || {
            let result = Worker::new(client, config, home).and_then(Worker::work);
            // Nobody listens for the second worker that stops.
            let _ = stopped.send(result);
        });
    }
    // A runtime with fewer workers would silently serve less.
    first_stop.recv().unwrap_or(Ok(()))
}

fn client() -> Result<Client, Error> {
    Ok(Client::from_env()?.with_user_agent(USER_AGENT))
}

struct Worker {
    client: Client,
    config: Config,
    home: Arc<Home>,
    page: Option<Page>,
    function: Option<Function>,
}

impl Worker {
    /// Does the init: starts the PHP that most events will need.
    fn new(mut client: Client, config: Config, home: Arc<Home>) -> Result<Worker, Error> {
        let (mut page, mut function) = (None, None);
        let started = match config.mode {
            Mode::Auto => Page::start_and_wait(&home, &config)
                .map(|started| page = Some(started))
                .map_err(|error| error.to_function_error()),
            Mode::Function => Function::start(&home, &config, None)
                .map(|started| function = Some(started))
                .map_err(|error| error.to_function_error()),
        };
        match started {
            Ok(()) => Ok(Worker { client, config, home, page, function }),
            Err(error) => Err(client.fail_init(&error)),
        }
    }

    fn work(mut self) -> Result<(), Error> {
        loop {
            self.revive();
            let invocation = self.client.next()?;
            self.serve(&invocation)?;
        }
    }

    /// A PHP that ended with its event gets a successor. The caller has its answer by now, so that
    /// the start costs nobody's time.
    fn revive(&mut self) {
        let had_page = self.page.is_some();
        self.drop_unusable();
        if had_page && self.page.is_none() {
            self.page = Page::start(&self.home, &self.config).map_err(|e| log::error(&e)).ok();
        }
        if self.config.mode == Mode::Function && self.function.is_none() {
            let started = Function::start(&self.home, &self.config, None);
            self.function = started.map_err(|e| log::error(&e)).ok();
        }
    }

    fn drop_unusable(&mut self) {
        if self.page.as_mut().is_some_and(|page| !page.is_usable(&self.config)) {
            self.page = None;
        }
        if self.function.as_mut().is_some_and(|function| !function.is_usable()) {
            self.function = None;
        }
    }

    fn serve(&mut self, invocation: &Invocation) -> Result<(), Error> {
        // It may have ended while it waited.
        self.drop_unusable();
        let event = match self.config.mode {
            Mode::Auto => HttpEvent::from_json(invocation.body()),
            Mode::Function => Ok(None),
        };
        match event {
            Ok(Some(event)) => self.serve_page(&event, invocation),
            Ok(None) => self.serve_function(invocation),
            Err(error) => {
                let error = FunctionError::new("Runtime.InvalidEvent", log::chain(&error));
                self.fail(invocation, &error)
            }
        }
    }

    fn serve_page(&mut self, event: &HttpEvent<'_>, invocation: &Invocation) -> Result<(), Error> {
        let page = match self.page.take() {
            Some(page) => Ok(page),
            None => Page::start(&self.home, &self.config),
        };
        match page {
            Ok(page) => {
                let page = self.page.insert(page);
                page.serve(&mut self.client, &self.config, event, invocation)
            }
            Err(error) => self.fail_start(invocation, &error.to_function_error(), &error),
        }
    }

    fn serve_function(&mut self, invocation: &Invocation) -> Result<(), Error> {
        let stop_at = self.config.stop_at(Instant::now(), invocation.remaining());
        let function = match self.function.take() {
            Some(function) => Ok(function),
            None => Function::start(&self.home, &self.config, stop_at),
        };
        match function {
            Ok(function) => {
                let function = self.function.insert(function);
                function.serve(&mut self.client, &self.config, invocation)
            }
            Err(function::StartError::Late) => {
                let error = function::timeout(&self.config, invocation.remaining());
                self.fail(invocation, &error)
            }
            Err(error) => self.fail_start(invocation, &error.to_function_error(), &error),
        }
    }

    fn fail_start(
        &mut self,
        invocation: &Invocation,
        reported: &FunctionError,
        error: &dyn std::error::Error,
    ) -> Result<(), Error> {
        log::error(error);
        self.fail(invocation, reported)
    }

    fn fail(&mut self, invocation: &Invocation, error: &FunctionError) -> Result<(), Error> {
        posted(self.client.error(invocation.request_id(), error))
    }
}
