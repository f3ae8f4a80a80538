#!/bin/sh
# Builds dist/bootstrap, which needs no library of the system that it runs in: with musl where
# rustup has that target, else with glibc linked in.
set -eu
cd "$(dirname "$0")"

host=$(rustc -vV | sed -n 's/^host: //p')
target=${host%-gnu}
target=${target%-musl}-musl
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    target=$host
    export RUSTFLAGS="${RUSTFLAGS-} -C target-feature=+crt-static"
fi
cargo build --release --target "$target"
mkdir -p dist
# Copied beside and moved, so that nobody sees half a file.
cp "${CARGO_TARGET_DIR:-target}/$target/release/bootstrap" dist/.bootstrap.new
mv dist/.bootstrap.new dist/bootstrap
