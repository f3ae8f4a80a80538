//! What the command line says of itself, for shells and for `man`.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// A shell that completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU bash, with or without the package bash-completion
    Bash,
    /// Zsh, with compinit
    Zsh,
    /// Fish
    Fish,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(lambfold completions bash)
  lambfold completions bash > ~/.local/share/bash-completion/completions/lambfold
  lambfold completions zsh > /usr/local/share/zsh/site-functions/_lambfold
  lambfold completions fish > ~/.config/fish/completions/lambfold.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "bash|zsh|fish", hide_possible_values = true)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lambfold man | man -l -
  lambfold man --page layer-build | man -l -
  lambfold man ~/.local/share/man/man1")]
pub(crate) struct Manual {
    /// Folder to write every page into, as lambfold.1, lambfold-invoke.1 and so on; it is made
    /// when it is missing
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Print the page of this command, for example invoke or layer-build [default: lambfold]
    #[arg(long, value_name = "COMMAND", conflicts_with = "dir")]
    pub(crate) page: Option<String>,
}
