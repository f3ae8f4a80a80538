//! What the guest sees: its files, its user, its shell.

use lambfold_sandbox::{Command, IdMode, ShellView, Spec, Step, StepOutcome, TmpMode};

use crate::Test;
use crate::world::{World, bash, bind, config, outside, spec};

pub const TESTS: &[Test] = &[
    ("view::the_user_is_that_of_the_configuration", the_user),
    ("view::files_are_seen_as_roots", files_are_seen_as_roots),
    ("view::sh_is_bash_and_dash_stays_dash", sh_is_bash_and_dash_stays_dash),
    ("view::nothing_but_tmp_can_be_written", nothing_but_tmp_can_be_written),
    ("view::the_host_is_not_seen", the_host_is_not_seen),
    ("view::what_is_lesser_is_said", what_is_lesser_is_said),
    ("view::extra_host_names", extra_host_names),
    ("view::a_probe_does_every_step", a_probe_does_every_step),
    ("view::a_probe_names_the_step_that_fails", a_probe_names_the_step_that_fails),
];

fn the_user() {
    let world = World::new();
    let inside = world.sandbox();
    let user = inside.bash("id -u; id -g; id -un; getent passwd nobody | cut -d: -f3").ok();
    assert_eq!(user, "993\n990\nsbx_user1051\n65534\n");
}

fn files_are_seen_as_roots() {
    let world = World::new();
    let task = world.folder("task", &[("file", "x")]);
    let opt = world.folder("opt", &[("layer", "x")]);
    let binds = vec![bind(&task, "/var/task"), bind(&opt, "/opt")];
    let inside = world.create(Spec { binds, ..spec() });
    let files = "/var/task /var/task/file /opt /opt/layer / /etc/passwd";
    let owners = inside.bash(&format!("stat -c %U {files}")).ok();
    let programs = inside.bash("stat -c %U /usr/bin/bash /bin/sh").ok();
    match world.sandboxes.capabilities().ids {
        IdMode::Own => {
            assert_eq!(owners, "root\n".repeat(6));
            assert_eq!(programs, "root\n".repeat(2));
            assert!(world.sandboxes.capabilities().host_files_seen_as_root);
        }
        // The user's own files are root's inside; the host's root has no id there.
        IdMode::Two => {
            assert_eq!(owners, "root\n".repeat(6));
            assert_eq!(programs, "nobody\n".repeat(2));
            assert!(!world.sandboxes.capabilities().host_files_seen_as_root);
        }
        IdMode::One => {
            assert_eq!(owners, "sbx_user1051\n".repeat(6));
            assert_eq!(programs, "nobody\n".repeat(2));
        }
    }
}

fn sh_is_bash_and_dash_stays_dash() {
    let world = World::new();
    let script = "#!/bin/sh\nset -euo pipefail\nfunction f () { echo \"$1\"; }\nsource ./lib.sh\n\
                  f \"$WORD\"\n[[ a == a ]] && echo ${BASH_VERSION%%.*}\n";
    let task = world.folder("task", &[("script", script), ("lib.sh", "WORD=sourced\n")]);
    let inside = world.create(Spec { binds: vec![bind(&task, "/var/task")], ..spec() });
    let ran = inside.run(Command { programs: vec!["/var/task/script".into()], ..bash("") }).ok();
    assert!(ran.starts_with("sourced\n"), "{ran}");
    assert!(ran.lines().nth(1).unwrap().parse::<u32>().unwrap() >= 4, "{ran}");
    if std::path::Path::new("/bin/dash").exists() {
        let dash = Command { programs: vec!["/bin/dash".into()], ..bash("echo [$BASH_VERSION]") };
        assert_eq!(inside.run(dash).ok(), "[]\n");
        assert_eq!(world.sandboxes.capabilities().shell, ShellView::MountOnLink);
    }
}

fn nothing_but_tmp_can_be_written() {
    use std::os::unix::fs::PermissionsExt;
    const FOLDERS: &str = "/ /etc /usr /usr/bin /var /var/task /opt /dev /run /home /proc";
    let script = |root: &str| {
        bash(&format!(
            "for d in {FOLDERS}; do (echo x > {root}$d/probe) 2>/dev/null && echo wrote $d; done; \
             (echo x >> {root}/var/task/file) 2>/dev/null && echo appended; \
             chmod 777 {root}/var/task/file 2>/dev/null && echo changed; \
             rm -f {root}/var/task/file 2>/dev/null && echo removed; true"
        ))
    };
    let world = World::new();
    // Open to everybody, so that it is not the owner that keeps the guest out.
    let task = world.folder("root/var/task", &[("file", "x")]);
    for (path, mode) in [(task.clone(), 0o777), (task.join("file"), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let binds = vec![bind(&task, "/var/task"), bind(&task, "/opt")];
    let inside = world.create(Spec { binds, ..spec() });
    assert_eq!(inside.run(script("")).ok(), "");
    let script_of_tmp = "echo x > /tmp/file && cat /tmp/file && echo x > /dev/null; \
                         stat -c %a /tmp; \
                         grep -E ' (/var/task|/opt|/usr|/tmp) ' /proc/self/mounts | cut -d' ' -f2,4";
    let ran = inside.bash(script_of_tmp).ok();
    let mut lines = ran.lines();
    assert_eq!((lines.next(), lines.next()), (Some("x"), Some("1777")), "{ran}");
    for line in lines {
        let (target, options) = line.split_once(' ').unwrap();
        let options: Vec<_> = options.split(',').collect();
        let access = if target == "/tmp" { "rw" } else { "ro" };
        for option in [access, "nosuid", "nodev"] {
            assert!(options.contains(&option), "{target} lacks {option}: {options:?}");
        }
    }
    // Control: the same script on the same folder of code, the others being the writer's own.
    let mut expected = String::new();
    for folder in FOLDERS.split(' ') {
        world.folder(&format!("root{folder}"), &[]);
        expected.push_str(&format!("wrote {folder}\n"));
    }
    expected.push_str("appended\nchanged\nremoved\n");
    let root = world.dir.path().join("root").display().to_string();
    assert_eq!(outside(&script(&root)).ok(), expected);
}

fn the_host_is_not_seen() {
    let world = World::new();
    let inside = world.sandbox();
    let data = world.dir.path().display().to_string();
    let own = std::process::id();
    let script = format!(
        "ls -d {data} /root /boot /sys/kernel /proc/{own}/cmdline /.old_root /etc/shadow /old_root; \
         ls /home | wc -l; ls / | tr '\\n' ' '"
    );
    let ran = inside.bash(&format!("({script}) 2>/dev/null")).ok();
    assert_eq!(
        ran,
        "0\nbin dev etc home lib lib64 mnt opt proc run sbin tmp usr var ".replace(
            "lib lib64 ",
            &["lib", "lib32", "lib64", "libx32"]
                .iter()
                .filter(|l| std::path::Path::new("/").join(l).symlink_metadata().is_ok())
                .map(|l| format!("{l} "))
                .collect::<String>(),
        )
    );
    // Control: outside they are there.
    assert!(std::path::Path::new(&data).exists() && std::path::Path::new("/boot").exists());
    // No mount of the host's root is left in the namespace.
    let mounts = inside.bash("cut -d' ' -f5 /proc/self/mountinfo | sort -u").ok();
    assert!(!mounts.contains("/boot") && !mounts.contains("/sys"), "{mounts}");
    assert_eq!(mounts.lines().filter(|m| *m == "/proc").count(), 1, "{mounts}");
}

fn what_is_lesser_is_said() {
    let world = World::new();
    let capabilities = world.sandboxes.capabilities();
    // The runner that plays several users says which kind this one is.
    match std::env::var("LAMBFOLD_TEST_EXPECT").as_deref() {
        Ok("two-ids") => assert_eq!(capabilities.ids, IdMode::Two, "{:?}", capabilities.notes),
        Ok("one-id") => assert_eq!(capabilities.ids, IdMode::One, "{:?}", capabilities.notes),
        _ => {}
    }
    let noted = |word: &str| {
        capabilities.notes.iter().any(|n| n.what.contains(word) && !n.remedy.is_empty())
    };
    assert_eq!(lambfold_sandbox::is_root(), capabilities.ids == IdMode::Own);
    assert_eq!(!capabilities.memory_limit, noted("memory is neither limited nor measured"));
    assert_eq!(!capabilities.processes_limit, noted("RLIMIT_NPROC"));
    assert_eq!(capabilities.tmp == TmpMode::Tmpfs, noted("/tmp is a tmpfs"));
    assert_eq!(capabilities.ids == IdMode::One, noted("same user"));
    assert_eq!(!capabilities.host_files_seen_as_root, noted("seen as nobody's"));
    assert_eq!(capabilities.landlock == 0, noted("no second wall around files"));
    let inside = world.sandbox();
    assert_eq!(inside.sandbox.memory_peak_bytes().is_some(), capabilities.memory_accounting);
    assert_eq!(inside.sandbox.oom_kills().is_some(), capabilities.memory_accounting);
}

fn a_probe_does_every_step() {
    let (config, _dir) = config();
    let reports = lambfold_sandbox::probe(config);
    assert_eq!(reports.len(), Step::ALL.len() + 1);
    for report in &reports {
        let good = matches!(report.outcome, StepOutcome::Holds | StepOutcome::Lesser);
        assert!(good, "{report:?}");
        assert_eq!(report.outcome == StepOutcome::Lesser, !report.remedy.is_empty(), "{report:?}");
    }
    let lesser = |step: Step| {
        reports.iter().any(|r| r.name == step.name() && r.outcome == StepOutcome::Lesser)
    };
    assert_eq!(lesser(Step::TmpImage), !lambfold_sandbox::is_root());
}

fn a_probe_names_the_step_that_fails() {
    let (mut config, dir) = config();
    std::fs::write(dir.path().join("file"), "").unwrap();
    config.work_dir = dir.path().join("file/work");
    let reports = lambfold_sandbox::probe(config);
    assert_eq!(reports[0].outcome, StepOutcome::Fails, "{:?}", reports[0]);
    assert!(!reports[0].remedy.is_empty());
    assert!(reports[1..].iter().all(|r| r.outcome == StepOutcome::NotReached));
}

fn extra_host_names() {
    let (mut config, dir) = config();
    config.hosts = vec![("127.0.0.1".parse().unwrap(), "sandbox.localdomain".to_owned())];
    let world = World::with(config, dir);
    let ran = world.sandbox().bash("getent hosts sandbox.localdomain | tr -s ' '").ok();
    assert_eq!(ran, "127.0.0.1 sandbox.localdomain\n");
}
