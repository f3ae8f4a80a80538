//! One module a command; each takes its arguments and returns how it ended.

mod code;
mod conform;
mod deploy;
mod doctor;
mod duration;
mod env;
mod fault;
mod invoke;
mod layer;
mod layer_build;
mod logs;
mod manual;
mod package;
mod shared;

use crate::args::{Command, Layer};
use crate::failure::{Exit, Failure};

pub(crate) fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Serve(args) => crate::serve::run(&args),
        Command::Env(args) => env::run(&args),
        Command::Deploy(args) => deploy::run(&args),
        Command::Invoke(args) => invoke::run(&args),
        Command::Package(args) => package::run(&args),
        Command::Layer(Layer::Publish(args)) => layer::publish(&args),
        Command::Layer(Layer::Import(args)) => layer::import(&args),
        Command::Layer(Layer::Build(args)) => layer_build::run(&args),
        Command::Conform(args) => conform::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Fault(args) => fault::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Manual(args) => manual::manual(&args),
    }
}
