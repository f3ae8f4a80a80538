<?php
// The conform function in PHP: what `lambfold conform` asks a function for. See docs/conform.md.
// The runtime needs LAMBFOLD_PHP_MODE=function.

if (getenv('LAMBFOLD_CONFORM_INIT') === 'error') {
    throw new RuntimeException('cannot be loaded, as asked');
}

return function ($event, Lambfold\Context $context) {
    switch (is_array($event) ? ($event['conform'] ?? '') : '') {
        case 'error':
            throw new RuntimeException($event['message']);
        case 'exit':
            exit($event['code']);
        case 'size':
            return str_repeat('x', $event['bytes'] - 2);
        case 'sleep':
            error_log('conform: asleep');
            usleep($event['ms'] * 1000);
            return ['slept' => $event['ms']];
        case 'log':
            echo strrev($event['reversed']), "\n";
            return ['logged' => true];
        case 'context':
            return [
                'requestId' => $context->awsRequestId,
                'deadlineMs' => $context->deadlineMs,
                'invokedFunctionArn' => $context->invokedFunctionArn,
                'traceId' => $context->traceId,
                'clientContext' => $context->clientContext,
                'cognitoIdentity' => $context->identity,
                'tenantId' => $context->tenantId,
                'variable' => getenv('LAMBFOLD_CONFORM_VARIABLE'),
            ];
        default:
            return $event;
    }
};
