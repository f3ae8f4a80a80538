use super::*;
use std::fs;

fn listed(runtime: BuiltIn, with: &[&str], from: &Path) -> Result<Vec<String>, String> {
    let args = LayerBuild {
        runtime,
        with: with.iter().map(|name| (*name).to_owned()).collect(),
        from: from.to_owned(),
        out: std::path::PathBuf::new(),
        printing: crate::args::Printing { format: Format::Text },
    };
    let root = Root::new(from).unwrap();
    let staging = tempfile::tempdir().unwrap();
    let mut contents = Contents::new(&root, folder(runtime), Machine::X86_64);
    let added = match runtime {
        BuiltIn::Bash => bash::add(&mut contents, &root),
        BuiltIn::Php => php::add(&mut contents, &root),
    };
    let done = added
        .and_then(|()| add_programs(&mut contents, &root, &args.with))
        .and_then(|()| Ok(contents.add_certificates()?))
        .and_then(|()| Ok(contents.write(staging.path())?));
    let listed = done.map_err(|error| {
        explain(&error).lines().map(|(_, text)| text.to_owned()).collect::<Vec<_>>().join("\n")
    })?;
    let path = |one: &Listed| one.json()["Path"].as_str().unwrap().to_owned();
    Ok(listed.iter().map(path).collect())
}

#[test]
fn what_is_absent_is_named_with_the_packages_that_have_it() {
    let root = tempfile::tempdir().unwrap();
    let error = listed(BuiltIn::Php, &[], root.path()).unwrap_err();
    assert!(error.contains("no php-cgi and no php in"), "{error}");
    assert!(error.contains("apt-get install php-cgi php-cli"), "{error}");
    let error = listed(BuiltIn::Bash, &[], root.path()).unwrap_err();
    assert!(error.contains("no bash in") && error.contains("--from"), "{error}");
}

#[test]
fn programs_are_programs() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("usr/bin")).unwrap();
    for (name, text) in [("bash", "#!/bin/sh\n"), ("tool", "x")] {
        fs::write(root.path().join("usr/bin").join(name), text).unwrap();
    }
    let error = listed(BuiltIn::Bash, &[], root.path()).unwrap_err();
    assert!(error.contains("usr/bin/bash") && error.contains("a script for /bin/sh"), "{error}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn libraries_come_with_a_program_and_are_those_of_its_root() {
    let files = listed(BuiltIn::Bash, &["env", ""], Path::new("/")).unwrap();
    for file in ["lambfold-bash/bin/bash", "bin/bash", "bin/env"] {
        assert!(files.iter().any(|have| have == file), "{file}: {files:?}");
    }
    assert!(files.iter().any(|file| file.starts_with("lambfold-bash/lib/ld-linux")), "{files:?}");
    let error = listed(BuiltIn::Bash, &["../env"], Path::new("/")).unwrap_err();
    assert!(error.contains("not the name of a program"), "{error}");
    let error = listed(BuiltIn::Bash, &["no-such-program"], Path::new("/")).unwrap_err();
    assert!(error.contains("no-such-program"), "{error}");

    // Without a library the program is of no use, and it is better to know now.
    let root = tempfile::tempdir().unwrap();
    let bash = Root::new(Path::new("/")).unwrap().file(Path::new("/bin/bash")).unwrap();
    fs::create_dir_all(root.path().join("bin")).unwrap();
    fs::create_dir_all(root.path().join("lib64")).unwrap();
    fs::copy(bash.real, root.path().join("bin/bash")).unwrap();
    fs::write(root.path().join("lib64/ld-linux-x86-64.so.2"), "x").unwrap();
    let error = listed(BuiltIn::Bash, &[], root.path()).unwrap_err();
    assert!(error.contains("needs the library lib"), "{error}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn what_looks_for_certificates_gets_them() {
    let with = |programs: &[&str]| listed(BuiltIn::Bash, programs, Path::new("/")).unwrap();
    let certificates = |files: &[String]| files.iter().any(|f| f == "lambfold-bash/ca.crt");
    assert!(certificates(&with(&["curl"])));
    assert!(!certificates(&with(&["env"])));
}
