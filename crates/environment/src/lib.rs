//! One execution environment: init, invoke, shutdown, reset; joins package, sandbox and runtime-api
