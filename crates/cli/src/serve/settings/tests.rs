use super::*;
use crate::args::Cli;
use crate::failure::Exit;
use clap::CommandFactory;

fn of(pairs: &[(&'static str, &str)], source: &Source) -> Settings {
    let values = pairs.iter().map(|(k, v)| (*k, ((*v).to_owned(), source.clone())));
    Settings { values: values.collect(), ..Settings::default() }
}

fn flags(pairs: &[(&'static str, &str)]) -> Settings {
    of(pairs, &Source::Flag)
}

fn environment(pairs: &[(&'static str, &str)]) -> Settings {
    of(pairs, &Source::Environment)
}

fn resolve(settings: &Settings) -> Result<Config, Failure> {
    settings.resolve(&|name| (name == "HOME").then(|| "/home/somebody".into()))
}

fn message(failure: &Failure) -> String {
    assert_eq!(failure.exit(), Exit::Usage);
    failure.lines().next().map(|(_, text)| text.to_owned()).unwrap_or_default()
}

#[test]
fn every_key_has_its_flag_and_names_its_variable_in_the_help() {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").expect("serve");
    let mut flags: Vec<_> = serve.get_arguments().filter_map(clap::Arg::get_long).collect();
    flags.retain(|flag| *flag != "config");
    assert_eq!(flags, KEYS);
    for key in KEYS {
        let argument = serve.get_arguments().find(|arg| arg.get_long() == Some(key)).expect(key);
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains(&variable(key)), "{key}: {help}");
    }
}

#[test]
fn flags_come_in_the_order_of_the_keys() {
    let args = Serve {
        listen: Some("l".into()),
        data_dir: Some("d".into()),
        ephemeral: Some("e".into()),
        region: Some("r".into()),
        account_id: Some("a".into()),
        rootfs: Some("f".into()),
        isolation: Some("i".into()),
        network: Some("n".into()),
        max_environments: Some("E".into()),
        max_memory: Some("M".into()),
        sandbox_stock: Some("S".into()),
        cpu: Some("c".into()),
        strict: Some("s".into()),
        insecure: Some("u".into()),
        config: None,
    };
    let settings = Settings::from_flags(&args);
    for key in KEYS {
        let initial = match key {
            "rootfs" => "f",
            "insecure" => "u",
            "max-environments" => "E",
            "max-memory" => "M",
            "sandbox-stock" => "S",
            _ => &key[..1],
        };
        assert_eq!(settings.values[key].0, initial);
    }
}

#[test]
fn a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default() {
    let file = || {
        Settings::from_file(
            "region = 'eu-west-1'\naccount-id = '111111111111'\nstrict = true",
            Source::File("x.toml".into()),
        )
        .expect("file")
    };
    let environment = || environment(&[("region", "eu-west-2"), ("strict", "false")]);
    let flags = flags(&[("region", "eu-west-3"), ("ephemeral", "true")]);
    let settings = flags.or(environment()).and_then(|s| s.or(file())).expect("merge");
    let config = resolve(&settings).expect("resolve");
    assert_eq!(config.region.as_str(), "eu-west-3");
    assert_eq!(config.account.as_str(), "111111111111");
    assert!(!config.strict);
    assert_eq!(config.listen.to_string(), "127.0.0.1:9000");
}

#[test]
fn where_data_is_kept_is_decided_by_the_strongest_source() {
    let ephemeral = || environment(&[("ephemeral", "true")]);
    let settings = flags(&[("data-dir", "/d")]).or(ephemeral()).expect("merge");
    let config = resolve(&settings).expect("resolve");
    assert!(matches!(config.data, DataDir::Persistent(dir) if dir == Path::new("/d")));
    let both = flags(&[("data-dir", "/d"), ("ephemeral", "true")]);
    let failure = both.or(Settings::default()).expect_err("both");
    assert_eq!(message(&failure), "--data-dir and --ephemeral exclude each other");
}

#[test]
fn listening_beyond_this_machine_has_to_be_asked_for_twice() {
    let open = &[("listen", "0.0.0.0:9000"), ("ephemeral", "true")];
    let failure = resolve(&environment(open)).expect_err("open to all");
    assert!(message(&failure).starts_with("LAMBFOLD_LISTEN would let"), "{failure:?}");
    let settings = flags(&[("insecure", "true")]).or(environment(open)).expect("merge");
    assert!(resolve(&settings).is_ok_and(|config| config.insecure));
    assert!(resolve(&flags(&[("listen", "[::1]:0"), ("ephemeral", "1")])).is_ok());
}

#[test]
fn the_network_is_nat_where_it_can_be_had_and_the_hosts_only_when_asked_for_twice() {
    let network = |pairs: &[(&'static str, &str)]| {
        let settings = flags(pairs).or(environment(&[("ephemeral", "true")])).expect("merge");
        resolve(&settings).map(|config| config.network)
    };
    assert_eq!(network(&[]).expect("default"), Network::NatIfPossible);
    assert_eq!(network(&[("network", "none")]).expect("none"), Network::None);
    assert_eq!(network(&[("network", "nat")]).expect("nat"), Network::Nat);
    let host = network(&[("network", "host"), ("insecure", "true")]);
    assert_eq!(host.expect("host"), Network::Host);
    let failure = network(&[("network", "host")]).expect_err("host without --insecure");
    assert!(message(&failure).contains("there are no credentials yet"), "{failure:?}");
}

#[test]
fn functions_are_without_walls_only_when_asked_for_twice_and_never_as_root() {
    let settings = |pairs: &[(&'static str, &str)]| {
        let walls = environment(&[("ephemeral", "true"), ("isolation", "process")]);
        flags(pairs).or(walls).expect("merge")
    };
    let check = |pairs: &[(&'static str, &str)], is_root| {
        let settings = settings(pairs);
        let network = settings.values.get("network").map(|(text, _)| match text.as_str() {
            "host" => Network::Host,
            "nat" => Network::Nat,
            _ => Network::None,
        });
        let insecure = settings.flag("insecure").expect("a flag");
        settings.check_without_walls(network, insecure, is_root).map_err(|why| message(&why))
    };
    assert_eq!(check(&[("insecure", "true")], false), Ok(()));
    let host = [("insecure", "true"), ("network", "host"), ("rootfs", "host"), ("cpu", "weight")];
    assert_eq!(check(&host, false), Ok(()));
    for (pairs, is_root, expected) in [
        (
            &[][..],
            false,
            "LAMBFOLD_ISOLATION process would let functions use this server's AWS API",
        ),
        (&[("insecure", "true")], true, "LAMBFOLD_ISOLATION process is refused to root"),
        (&[("network", "nat")], false, "--network nat and LAMBFOLD_ISOLATION process exclude"),
        (&[("network", "none")], false, "--network none and LAMBFOLD_ISOLATION process exclude"),
        (&[("rootfs", "/usr")], false, "--rootfs /usr and LAMBFOLD_ISOLATION process exclude"),
        (&[("cpu", "aws")], false, "--cpu aws and LAMBFOLD_ISOLATION process exclude"),
    ] {
        let text = check(pairs, is_root).expect_err(expected);
        assert!(text.starts_with(expected), "{text}");
    }
    let text = "isolation = 'process'\n[rootfs]\nother = '/usr'";
    let file = Settings::from_file(text, Source::File("x.toml".into())).expect("file");
    let text = message(&file.check_without_walls(None, true, false).expect_err("another root"));
    assert!(text.starts_with("other under rootfs in x.toml and isolation in x.toml"), "{text}");
    // As whoever runs this.
    match resolve(&settings(&[("insecure", "true")])) {
        Ok(config) if !lambfold_sandbox::is_root() => {
            assert_eq!((config.isolation, config.network), (Isolation::Process, Network::Host));
        }
        Err(failure) if lambfold_sandbox::is_root() => {
            assert!(message(&failure).contains("is refused to root"), "{failure:?}");
        }
        other => panic!("{other:?}"),
    }
    let config = resolve(&flags(&[("ephemeral", "true")])).expect("resolve");
    assert_eq!(config.isolation, Isolation::Namespace, "it is never chosen by itself");
}

#[test]
fn wrong_values_name_their_source() {
    let cases: [(Settings, &str); 12] = [
        (flags(&[("listen", "9000")]), "--listen has the wrong value \"9000\""),
        (environment(&[("strict", "maybe")]), "LAMBFOLD_STRICT has the wrong value \"maybe\""),
        (flags(&[("isolation", "none")]), "--isolation has the wrong value \"none\": it must be"),
        (flags(&[("network", "host")]), "--network host would let functions use"),
        (flags(&[("network", "x")]), "--network has the wrong value \"x\""),
        (flags(&[("cpu", "all")]), "--cpu has the wrong value \"all\": it must be weight or aws"),
        (flags(&[("max-environments", "0")]), "--max-environments has the wrong value \"0\""),
        (
            environment(&[("max-environments", "many")]),
            "LAMBFOLD_MAX_ENVIRONMENTS has the wrong value \"many\"",
        ),
        (flags(&[("max-memory", "8")]), "--max-memory has the wrong value \"8\""),
        (flags(&[("sandbox-stock", "65")]), "--sandbox-stock has the wrong value \"65\""),
        (
            environment(&[("sandbox-stock", "-1")]),
            "LAMBFOLD_SANDBOX_STOCK has the wrong value \"-1\": it must be a whole number from 0",
        ),
        (flags(&[("rootfs", "/nonexistent")]), "--rootfs has the wrong value"),
    ];
    for (settings, start) in cases {
        let text = message(&resolve(&settings).expect_err(start));
        assert!(text.starts_with(start), "{text}");
    }
}

#[test]
fn files_with_unknown_keys_or_types_are_refused() {
    let read = |text| Settings::from_file(text, Source::File("x.toml".into()));
    for (text, expected) in [
        ("listn = 'x'", "settings file x.toml has the unknown key \"listn\""),
        ("listen = 9000", "listen in x.toml must be text or a boolean, not integer"),
        ("listen", "settings file x.toml is not TOML"),
    ] {
        assert_eq!(message(&read(text).expect_err(text)), expected);
    }
    assert!(read("").is_ok());
}

#[test]
fn sizes_have_a_unit_and_hold_at_least_one_small_environment() {
    for (text, mib) in
        [("128MiB", 128), ("512 mb", 512), ("4G", 4_096), ("4GiB", 4_096), ("2TiB", 2_097_152)]
    {
        assert_eq!(size_mib(text), Ok(mib), "{text}");
    }
    for text in ["", "MiB", "127MiB", "4", "4KiB", "-1GiB", "1.5GiB", "99999999999999999TiB"] {
        assert!(size_mib(text).is_err(), "{text}");
    }
}

#[test]
fn limits_of_environments_come_from_numbers_and_text() {
    let text = "max-environments = 20\nmax-memory = '8GiB'\nephemeral = true";
    let settings = Settings::from_file(text, Source::File("x.toml".into())).expect("file");
    let config = resolve(&settings).expect("resolve");
    assert_eq!((config.max_environments, config.max_memory_mib), (Some(20), Some(8_192)));
    let config = resolve(&flags(&[("ephemeral", "true")])).expect("resolve");
    assert_eq!((config.max_environments, config.max_memory_mib), (None, None));
}

#[test]
fn the_stock_of_sandboxes_has_a_size_and_can_be_empty() {
    let file = |text| Settings::from_file(text, Source::File("x.toml".into())).expect("file");
    for (text, size) in [
        ("ephemeral = true", 4),
        ("ephemeral = true\nsandbox-stock = 0", 0),
        ("ephemeral = true\nsandbox-stock = 64", 64),
    ] {
        assert_eq!(resolve(&file(text)).expect(text).sandbox_stock, size);
    }
}

#[test]
fn processors_are_shared_by_weight_or_as_aws_does() {
    for (settings, expected) in [
        (&[("ephemeral", "true")][..], Processors::Weight),
        (&[("ephemeral", "true"), ("cpu", "weight")][..], Processors::Weight),
        (&[("ephemeral", "true"), ("cpu", "aws")][..], Processors::Quota),
    ] {
        assert_eq!(resolve(&flags(settings)).expect("resolve").processors, expected);
    }
}

#[test]
fn root_file_systems_have_names() {
    let read = |text: &str| Settings::from_file(text, Source::File("x.toml".into()));
    let text =
        "ephemeral = true\n[rootfs]\ndefault = '/usr'\n'provided.al2023' = '/etc'\nplain = 'host'";
    let config = resolve(&read(text).expect("file")).expect("resolve");
    assert_eq!(config.rootfs, Rootfs::Dir("/usr".into()));
    let more: Vec<_> = config.more_rootfs.into_iter().collect();
    assert_eq!(
        more,
        [
            ("plain".to_owned(), Rootfs::Host),
            ("provided.al2023".to_owned(), Rootfs::Dir("/etc".into())),
        ]
    );
    // The flag is the default one alone.
    let settings = flags(&[("rootfs", "host")]).or(read(text).expect("file")).expect("merge");
    let config = resolve(&settings).expect("resolve");
    assert_eq!((config.rootfs, config.more_rootfs.len()), (Rootfs::Host, 2));
    for (table, expected) in [
        ("a = '/nonexistent'", "a under rootfs in x.toml has the wrong value"),
        ("'a/b' = 'host'", "a/b under rootfs in x.toml: names have"),
    ] {
        let settings = read(&format!("ephemeral = true\n[rootfs]\n{table}")).expect("file");
        let text = message(&resolve(&settings).expect_err(table));
        assert!(text.starts_with(expected), "{text}");
    }
    let failure = read("[rootfs]\na = 1").expect_err("a number");
    assert!(message(&failure).starts_with("a under rootfs in x.toml must be text"), "{failure:?}");
}
