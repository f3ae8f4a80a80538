//! The lambfold command: client commands, serve, doctor
