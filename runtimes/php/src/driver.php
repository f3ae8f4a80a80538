<?php
// Loads the handler's file once and calls what it returns for each event. Started by the runtime;
// the other half of this is function.rs.

namespace Lambfold;

/** What is known about an event beside the event itself. */
final class Context implements \JsonSerializable
{
    public string $awsRequestId = '';
    public int $deadlineMs = 0;
    public string $invokedFunctionArn = '';
    public ?string $traceId = null;
    /** @var mixed what a mobile client says about itself */
    public $clientContext = null;
    /** @var mixed */
    public $identity = null;
    public ?string $tenantId = null;

    /** @param array<string, mixed> $members */
    public function __construct(array $members)
    {
        foreach ($members as $name => $value) {
            $this->$name = $value;
        }
    }

    /** Milliseconds until the function is stopped. */
    public function getRemainingTimeInMillis(): int
    {
        return max(0, $this->deadlineMs - (int) (microtime(true) * 1000));
    }

    public function jsonSerialize(): array
    {
        return get_object_vars($this);
    }
}

/** @internal */
final class Driver
{
    /** @var resource */
    private $connection;
    private string $file;
    /** What runs now: loading, an event, or nothing. */
    private string $phase = 'load';

    public function __construct(string $socket, string $file)
    {
        $this->file = $file;
        $connection = @stream_socket_client('unix://' . $socket, $code, $message);
        if ($connection === false) {
            fwrite(STDERR, "php runtime: cannot connect to $socket: $message\n");
            exit(1);
        }
        stream_set_timeout($connection, 1 << 30);
        $this->connection = $connection;
    }

    public function run(): void
    {
        register_shutdown_function(function (): void {
            $this->atEnd();
        });
        try {
            $handler = self::load($this->file);
        } catch (\Throwable $error) {
            $this->fail($error);
            return;
        }
        if (!is_callable($handler)) {
            $this->phase = '';
            $kind = is_object($handler) ? get_class($handler) : gettype($handler);
            $message = "{$this->file} returns no callable but $kind; it needs: return function ("
                . '$event, $context) { … };';
            $this->send('E', self::report('Runtime.HandlerNotFound', $message, []));
            return;
        }
        $this->phase = '';
        $this->send('R', '');
        while (($context = $this->receive()) !== null && ($event = $this->receive()) !== null) {
            $this->phase = 'event';
            $this->handle($handler, $context, $event);
            $this->phase = '';
        }
    }

    /** The file sees no variables of this one. */
    private static function load()
    {
        return require func_get_arg(0);
    }

    private function handle(callable $handler, string $context, string $event): void
    {
        $context = new Context(json_decode($context, true));
        self::setVariable('_X_AMZN_TRACE_ID', $context->traceId);
        try {
            $event = json_decode($event, true, 512, JSON_THROW_ON_ERROR);
            $answer = $handler($event, $context);
            $flags = JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE
                | JSON_PRESERVE_ZERO_FRACTION;
            $answer = json_encode($answer, $flags);
        } catch (\Throwable $error) {
            $this->fail($error);
            return;
        } finally {
            // What is printed is for the log, and belongs to this event.
            while (ob_get_level() > 0 && @ob_end_flush()) {
            }
        }
        $this->send('A', $answer);
    }

    private static function setVariable(string $name, ?string $value): void
    {
        putenv($value === null ? $name : "$name=$value");
        if ($value === null) {
            unset($_SERVER[$name]);
        } else {
            $_SERVER[$name] = $value;
        }
    }

    private function fail(\Throwable $error): void
    {
        $this->phase = '';
        $stack = [];
        $at = ['file' => $error->getFile(), 'line' => $error->getLine()];
        foreach (array_merge($error->getTrace(), [[]]) as $frame) {
            $name = ($frame['class'] ?? '') . ($frame['type'] ?? '') . ($frame['function'] ?? '{main}');
            if (($at['file'] ?? '') !== __FILE__) {
                $stack[] = [
                    'path' => $at['file'] ?? '[internal]',
                    'line' => $at['line'] ?? 0,
                    'label' => $name,
                ];
            }
            $at = $frame;
        }
        // The driver's own frames are the outermost.
        while ($stack && in_array(end($stack)['label'], ['{main}', 'Lambfold\Driver->run'], true)) {
            array_pop($stack);
        }
        $message = $error->getMessage();
        fwrite(STDERR, 'PHP ' . get_class($error) . ": $message in {$error->getFile()}:"
            . "{$error->getLine()}\n{$error->getTraceAsString()}\n");
        $this->send('E', self::report(get_class($error), $message, $stack));
    }

    /** Called when PHP ends: in the middle of something, that was exit() or a fatal error. */
    private function atEnd(): void
    {
        if ($this->phase === '') {
            return;
        }
        // There may be nothing left of it.
        ini_set('memory_limit', '-1');
        $error = error_get_last();
        $fatal = E_ERROR | E_PARSE | E_CORE_ERROR | E_COMPILE_ERROR | E_USER_ERROR | E_RECOVERABLE_ERROR;
        if ($error !== null && ($error['type'] & $fatal) !== 0) {
            $frame = ['path' => $error['file'], 'line' => $error['line'], 'label' => '{fatal}'];
            $report = self::report('Function.FatalError', $error['message'], [$frame]);
        } elseif ($this->phase === 'load') {
            $report = self::report('Function.Exit', "{$this->file} called exit() while it was loaded", []);
        } else {
            $report = self::report('Function.Exit', "{$this->file} called exit() and gave no answer", []);
        }
        $this->phase = '';
        $this->send('F', $report);
    }

    /** @param array<int, array{path: string, line: int, label: string}> $stack */
    private static function report(string $type, string $message, array $stack): string
    {
        $report = ['type' => $type, 'message' => $message, 'stack' => $stack];
        return json_encode($report, JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_SLASHES);
    }

    private function send(string $kind, string $content): void
    {
        $bytes = $kind . pack('N', strlen($content)) . $content;
        for ($sent = 0; $sent < strlen($bytes); $sent += $size) {
            $size = @fwrite($this->connection, $sent === 0 ? $bytes : substr($bytes, $sent));
            if ($size === false || $size === 0) {
                exit(1);
            }
        }
    }

    private function receive(): ?string
    {
        $length = $this->read(4);
        return $length === null ? null : $this->read(unpack('N', $length)[1]);
    }

    private function read(int $size): ?string
    {
        $bytes = '';
        while (strlen($bytes) < $size) {
            $part = fread($this->connection, $size - strlen($bytes));
            if ($part === false || ($part === '' && feof($this->connection))) {
                return null;
            }
            $bytes .= $part;
        }
        return $bytes;
    }
}

(static function (array $arguments): void {
    [$socket, $file] = [getenv('LAMBFOLD_PHP_SOCKET'), $arguments[1]];
    putenv('LAMBFOLD_PHP_SOCKET');
    unset($_SERVER['LAMBFOLD_PHP_SOCKET'], $_ENV['LAMBFOLD_PHP_SOCKET']);
    // To the handler's file it is itself what was started.
    $GLOBALS['argv'] = $_SERVER['argv'] = [$file];
    $GLOBALS['argc'] = $_SERVER['argc'] = 1;
    foreach (['PHP_SELF', 'SCRIPT_NAME', 'SCRIPT_FILENAME', 'PATH_TRANSLATED'] as $name) {
        $_SERVER[$name] = $file;
    }
    (new Driver($socket, $file))->run();
})($argv);
