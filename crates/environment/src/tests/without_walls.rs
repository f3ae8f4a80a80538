//! Functions that are plain processes of this machine.

use super::fixture::{Lab, echo};
use crate::launcher::LaunchError;
use lambfold_sandbox::Command;
use lambfold_types::{Digest, LayerUse, LayerVersionArn};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

/// With this as its bootstrap.
fn lab(bootstrap: &str) -> (Lab, PathBuf) {
    let mut lab = Lab::new(|_, guest| echo(guest));
    Arc::get_mut(&mut lab.launcher).unwrap().tear_walls_down();
    let tree = lab.folder.path().join("trees").join(lab.version.code.as_str());
    std::fs::create_dir_all(&tree).unwrap();
    let path = tree.join("bootstrap");
    std::fs::write(&path, bootstrap).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (lab, tree)
}

async fn command_of(lab: &Lab) -> Command {
    drop(lab.launch().await);
    lab.world.command.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn the_code_is_used_where_it_is_and_cannot_be_written_to() {
    let (lab, tree) = lab("#!/bin/bash\n");
    let command = command_of(&lab).await;
    let task = tree.display().to_string();
    assert_eq!((command.programs, command.args.len()), (vec![format!("{task}/bootstrap")], 0));
    assert_eq!(command.cwd, task);
    let variable = |name: &str| {
        let found = command.env.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).unwrap()
    };
    assert_eq!(variable("LAMBDA_TASK_ROOT"), task);
    // The address that was opened is told, whichever was asked for.
    assert_ne!(variable("AWS_LAMBDA_RUNTIME_API"), "169.254.100.1:9001");
    assert!(variable("AWS_LAMBDA_RUNTIME_API").starts_with("127."));
    let spec = lab.world.spec.lock().unwrap().clone();
    assert_eq!((spec.binds.len(), spec.first), (0, None));
    for path in [tree.clone(), tree.join("bootstrap")] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o555, "{path:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_for_sh_gets_bash_where_sh_is_something_else() {
    let (lab, tree) = lab("#!/bin/sh -u\n");
    let command = command_of(&lab).await;
    let bootstrap = tree.join("bootstrap").display().to_string();
    let is_bash = |path| PathBuf::from(path).canonicalize().unwrap().ends_with("bash");
    if is_bash("/bin/sh") {
        assert_eq!((command.programs, command.args), (vec![bootstrap], Vec::new()));
    } else {
        assert_eq!(command.programs, ["/bin/bash"]);
        assert_eq!(command.args, ["--posix", "-u", &bootstrap]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_with_layers_is_told_why_not() {
    let (mut lab, _) = lab("");
    Arc::get_mut(&mut lab.version).unwrap().layers = vec![LayerUse {
        arn: LayerVersionArn::parse("arn:aws:lambda:us-east-1:000000000000:layer:l:1").unwrap(),
        code: Digest::from_bytes(&[8; 32]),
        zip_bytes: 1,
        unpacked_bytes: 1,
    }];
    let error = lab.try_launch().await.unwrap_err();
    assert!(matches!(error, LaunchError::Layered { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("--isolation process") && text.contains("own zip"), "{text}");
    let error = lab.launcher.diagnose(Arc::clone(&lab.version)).await.unwrap_err();
    assert!(matches!(error, LaunchError::Layered { .. }), "{error:?}");
    assert!(!lab.world.is_created(), "a sandbox was asked for");
}
