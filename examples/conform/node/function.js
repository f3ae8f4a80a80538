// The conform function for aws-lambda-ric: what `lambfold conform` asks a function for.
// See docs/conform.md.
'use strict';

if (process.env.LAMBFOLD_CONFORM_INIT === 'error') {
  throw new Error('cannot be loaded, as asked');
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const streaming = globalThis.awslambda?.streamifyResponse;

async function answer(event, context) {
  switch (event && event.conform) {
    case 'error':
      throw new Error(event.message);
    case 'exit':
      return process.exit(event.code);
    case 'size':
      return 'x'.repeat(event.bytes - 2);
    case 'sleep':
      console.error('conform: asleep');
      await sleep(event.ms);
      return { slept: event.ms };
    case 'log':
      console.log([...event.reversed].reverse().join(''));
      return { logged: true };
    case 'context':
      return {
        requestId: context.awsRequestId,
        remainingMs: context.getRemainingTimeInMillis(),
        invokedFunctionArn: context.invokedFunctionArn,
        traceId: process.env._X_AMZN_TRACE_ID ?? null,
        clientContext: context.clientContext ?? null,
        cognitoIdentity: context.identity ?? null,
        ...('tenantId' in context ? { tenantId: context.tenantId ?? null } : {}),
        variable: process.env.LAMBFOLD_CONFORM_VARIABLE ?? null,
      };
    default:
      return event;
  }
}

exports.handler = answer;

// The handler function.stream is this one, with a stream for the event that asks for one.
if (streaming) {
  exports.stream = streaming(async (event, stream, context) => {
    if (!event || event.conform !== 'stream') {
      stream.end(JSON.stringify(await answer(event, context)));
      return;
    }
    for (const [at, part] of event.parts.entries()) {
      if (at > 0) await sleep(event.delayMs);
      stream.write(part);
    }
    if (event.then === 'error') throw new Error('in the middle, as asked');
    stream.end();
  });
}
