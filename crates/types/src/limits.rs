//! AWS's quotas as values with their units; the source is AWS's quota page and service model,
//! as collected in the behaviour specification §5.3 and §6.

/// Largest event of a synchronous invocation, bytes (6 MiB).
pub const SYNC_REQUEST_BYTES: usize = 6_291_456;
/// Largest buffered response that a runtime may post, bytes (6 MiB + 100).
pub const RESPONSE_BYTES: usize = 6_291_556;
/// Largest streamed response, bytes (200 MiB).
pub const STREAMED_RESPONSE_BYTES: u64 = 209_715_200;
/// What a streamed response may send at once before its bandwidth is limited, bytes (6 MiB).
pub const STREAM_BURST_BYTES: usize = 6_291_456;
/// What it may send from then on, bytes a second (2 MiB).
pub const STREAM_BYTES_PER_S: usize = 2_097_152;
/// How often it may send a part of that, milliseconds.
pub const STREAM_REFILL_MS: u64 = 125;
/// Largest event of an asynchronous invocation, bytes (1 MiB).
pub const ASYNC_REQUEST_BYTES: usize = 1_048_576;
/// Largest zip in a request, bytes (50 MiB).
pub const DIRECT_UPLOAD_BYTES: u64 = 52_428_800;
/// Largest CreateFunction, UpdateFunctionCode or PublishLayerVersion request, bytes.
pub const CODE_REQUEST_BYTES: usize = 70_167_211;
/// Code and layers of a function together, unpacked, bytes (250 MiB).
pub const UNPACKED_BYTES: u64 = 262_144_000;
/// Entries in one zip; a limit of ours.
pub const ZIP_ENTRIES: u64 = 100_000;
/// Layers of a function.
pub const LAYERS: usize = 5;
/// MemorySize, MiB.
pub const MEMORY_MIB: std::ops::RangeInclusive<u32> = 128..=10_240;
/// MemorySize when none is given, MiB.
pub const MEMORY_DEFAULT_MIB: u32 = 128;
/// Timeout, seconds.
pub const TIMEOUT_S: std::ops::RangeInclusive<u32> = 1..=900;
/// Timeout when none is given, seconds.
pub const TIMEOUT_DEFAULT_S: u32 = 3;
/// EphemeralStorage (`/tmp`), MiB.
pub const EPHEMERAL_STORAGE_MIB: std::ops::RangeInclusive<u32> = 512..=10_240;
/// EphemeralStorage when none is given, MiB.
pub const EPHEMERAL_STORAGE_DEFAULT_MIB: u32 = 512;
/// Environment variables of a function, bytes of their JSON map.
pub const VARIABLES_BYTES: usize = 4_096;
/// Client context, bytes of base64.
pub const CLIENT_CONTEXT_BYTES: usize = 3_583;
/// Log tail of an invocation, bytes.
pub const LOG_TAIL_BYTES: usize = 4_096;
/// Concurrent executions of an account.
pub const ACCOUNT_CONCURRENCY: u32 = 1_000;
/// Concurrent executions of an account that no function may reserve.
pub const UNRESERVED_CONCURRENCY_MIN: u32 = 100;
/// Code storage of an account, bytes (75 GiB).
pub const CODE_STORAGE_BYTES: u64 = 80_530_636_800;
/// Tags of a resource.
pub const TAGS: usize = 50;
/// Init phase, milliseconds.
pub const INIT_MS: u64 = 10_000;
/// Open files of a process in an environment.
pub const OPEN_FILES: u64 = 1_024;
/// Processes and threads in an environment.
pub const PROCESSES: u64 = 1_024;
/// Request headers that the Runtime API accepts, bytes: error causes travel in a header.
pub const RUNTIME_API_HEADER_BYTES: usize = 1_048_576 + 65_536;
/// Attempts after the first of an asynchronous event whose function failed.
pub const ASYNC_RETRIES: u32 = 2;
/// Age at which an asynchronous event is given up, seconds.
pub const ASYNC_MAX_AGE_S: u64 = 21_600;
