//! What the runtime posts.

use super::Core;
use crate::context::Context;
use crate::fault::{Fault, error_payload};
use crate::phase::{Effects, Phase, platform_answer};
use bytes::Bytes;
use lambfold_runtime_api::{Post, Posted, Posting, Refusal, State};
use lambfold_types::Answer;
use lambfold_types::limits::RESPONSE_BYTES;

impl Core {
    pub(crate) fn begin_post(
        &mut self,
        ctx: &Context,
        id: &str,
        post: Post,
    ) -> Result<Posting, Refusal> {
        let posting = self.machine.post(id, post)?;
        if let Phase::Invoke(invoke) = &mut self.phase
            && let Some(timing) = &mut invoke.timing
        {
            timing.answering = Some(ctx.moment());
        }
        Ok(posting)
    }

    pub(crate) fn begin_init_error(&mut self) -> Result<Posting, Refusal> {
        if !self.has_runtime() {
            let from = self.machine.state();
            return Err(Refusal::Concurrent { from, to: State::InitError });
        }
        self.machine.init_error()
    }

    pub(crate) fn finish_post(
        &mut self,
        ctx: &Context,
        posting: Posting,
        posted: Posted,
        fx: &mut Effects,
    ) -> Result<(), Refusal> {
        self.machine.check(&posting)?;
        if posting.is_init_error() {
            self.init_failed(ctx, posted, fx);
            return Ok(());
        }
        // The runtime's following `next` is refused, as on AWS.
        if posted != Posted::InvalidResponseMode {
            self.machine.sent(&posting)?;
        }
        let Phase::Invoke(invoke) = &mut self.phase else { return Err(Refusal::Internal) };
        let answer = match posted {
            Posted::Response { payload, content_type } => {
                Answer { payload, content_type, function_error: false }
            }
            Posted::Error { payload, content_type, error_type: _ } => {
                Answer { payload, content_type, function_error: true }
            }
            Posted::TooLarge => {
                invoke.refused = Some("Function.ResponseSizeTooLarge");
                platform_answer(too_large())
            }
            Posted::InvalidResponseMode => {
                invoke.refused = Some("Runtime.InvalidResponseModeHeader");
                platform_answer(Bytes::new())
            }
            Posted::Truncated => {
                const TYPE: &str = "Runtime.TruncatedResponse";
                // A runtime that dies in the middle of its response is cut off, too: then its
                // exit is the better answer, and it comes in a moment.
                invoke.refused = Some(TYPE);
                let text = Refusal::Truncated.message();
                invoke.withheld =
                    Some(platform_answer(error_payload(TYPE, invoke.request_id, &text)));
                return Ok(());
            }
        };
        if let Some(timing) = &mut invoke.timing {
            timing.answered = Some(ctx.moment());
            timing.produced_bytes = u64::try_from(answer.payload.len()).unwrap_or(u64::MAX);
        }
        if let Some(on_answer) = invoke.answer.take() {
            fx.answer = Some((on_answer, answer));
        }
        Ok(())
    }

    fn init_failed(&mut self, ctx: &Context, posted: Posted, fx: &mut Effects) {
        let error_type = match posted {
            Posted::Error { payload, content_type, error_type } => {
                if !payload.is_empty() {
                    self.init_error = Some(Answer { payload, content_type, function_error: true });
                }
                error_type
            }
            _ => "Runtime.Unknown".into(),
        };
        self.fail(ctx, Fault::Init { error_type }, fx);
    }
}

fn too_large() -> Bytes {
    format!(
        "{{\"errorMessage\":\"Response payload size exceeded maximum allowed payload size ({RESPONSE_BYTES} bytes).\",\"errorType\":\"Function.ResponseSizeTooLarge\"}}"
    )
    .into()
}
