//! php.ini and its like, programs, handlers.

use serde_json::json;

use crate::harness::{get, index, setup};

#[test]
fn settings_of_the_function_win_over_the_runtimes() {
    let page = "<?php echo json_encode([ini_get('display_errors'), ini_get('precision'),
        ini_get('user_agent'), ini_get('session.save_path')]);";
    let mut runtime = index(page).start();
    assert_eq!(runtime.http(&get("/")).json(), json!(["0", "14", "", "/tmp"]));
    let mut runtime = index(page)
        .file("php.ini", "display_errors = 1\nprecision = 9\nuser_agent = main\n")
        .file("php/conf.d/app.ini", "precision = 11\n")
        .start();
    assert_eq!(runtime.http(&get("/")).json(), json!(["1", "11", "main", "/tmp"]));
    let extra = tempfile::tempdir().unwrap();
    std::fs::write(extra.path().join("x.ini"), "precision = 12\n").unwrap();
    let mut runtime = index(page)
        .file("php/conf.d/app.ini", "precision = 11\n")
        .variable("PHP_INI_SCAN_DIR", extra.path().to_str().unwrap())
        .start();
    assert_eq!(runtime.http(&get("/")).json()[1], "12");
}

#[test]
fn a_php_that_a_page_starts_has_the_same_settings() {
    let mut runtime = index("<?php echo shell_exec('php -r \"echo ini_get(\\'precision\\');\"');")
        .file("php.ini", "precision = 9\n")
        .start();
    assert_eq!(runtime.http(&get("/")).text(), "9");
}

#[test]
fn the_memory_of_a_page_is_a_little_less_than_the_functions() {
    let page = "<?php echo ini_get('memory_limit');";
    let mut runtime = index(page).variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024").start();
    assert_eq!(runtime.http(&get("/")).text(), "896M");
    let mut runtime = index(page)
        .variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024")
        .file("php.ini", "memory_limit = 64M\n")
        .start();
    assert_eq!(runtime.http(&get("/")).text(), "64M");
}

#[test]
fn extensions_are_on() {
    let mut runtime =
        index("<?php echo json_encode(array_map('strtolower', get_loaded_extensions()));").start();
    let loaded = runtime.http(&get("/")).json();
    for name in ["json", "ctype", "tokenizer", "posix", "iconv", "fileinfo", "zend opcache"] {
        assert!(loaded.as_array().unwrap().contains(&json!(name)), "{name}: {loaded}");
    }
}

#[test]
fn the_working_folder_is_the_functions() {
    let mut runtime =
        setup("public/index").file("public/index.php", "<?php echo getcwd();").start();
    let folder = runtime.folder().canonicalize().unwrap();
    // As with any web server, a page runs in the folder of its script.
    assert_eq!(runtime.http(&get("/")).text(), folder.join("public").display().to_string());
}

#[test]
fn a_runtime_that_cannot_start_says_why() {
    for (handler, error_type) in [
        ("", "Runtime.MalformedHandlerName"),
        ("../x.php", "Runtime.MalformedHandlerName"),
        ("missing.php", "Runtime.ImportModuleError"),
    ] {
        let error = setup(handler).start().init_error();
        assert_eq!(error["errorType"], error_type, "{handler}");
    }
    let error = index("").variable("LAMBFOLD_PHP_CGI", "/nowhere/php-cgi").start().init_error();
    assert_eq!(error["errorType"], "Runtime.InvalidConfiguration");
    assert!(error["errorMessage"].as_str().unwrap().contains("/nowhere/php-cgi"));
    let error = index("").variable("LAMBFOLD_PHP_MODE", "fpm").start().init_error();
    assert!(error["errorMessage"].as_str().unwrap().contains("LAMBFOLD_PHP_MODE"));
    // A program that is no PHP.
    let error = index("").variable("LAMBFOLD_PHP_CGI", "/bin/false").start().init_error();
    assert_eq!(error["errorType"], "Runtime.StartError");
    assert!(error["errorMessage"].as_str().unwrap().contains("exit status 1"), "{error}");
}

#[test]
fn nothing_of_an_earlier_runtime_is_in_the_way() {
    // Process numbers come again after a reset of the environment.
    let mut runtime = index("<?php echo 'fine';").start();
    assert_eq!(runtime.http(&get("/")).text(), "fine");
    let files: Vec<String> = std::fs::read_dir(runtime.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(files.iter().all(|name| !name.ends_with(".sock")), "{files:?}");
}
