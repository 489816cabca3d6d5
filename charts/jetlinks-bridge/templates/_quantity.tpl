{{/* "1h30m" in seconds, rounded up. */}}
{{- define "jetlinks-bridge.seconds" -}}
{{- $unit := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 -}}
{{- $millis := 0 -}}
{{- range regexFindAll "[0-9]+(ms|s|m|h|d)" (toString .) -1 -}}
{{- $millis = add $millis (mul (regexFind "^[0-9]+" . | int64) (get $unit (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- div (add $millis 999) 1000 -}}
{{- end -}}

{{/* A size of the configuration ("256MiB") or a quantity of Kubernetes ("1.5Gi") in KiB, rounded down. */}}
{{- define "jetlinks-bridge.kibibytes" -}}
{{- $text := toString . -}}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" $text | float64 -}}
{{- $unit := trimSuffix "b" (lower (trimPrefix (regexFind "^[0-9]+([.][0-9]+)?" $text) $text | trim)) -}}
{{- $bytes := dict "" 1.0 "k" 1e3 "m" 1e6 "g" 1e9 "t" 1e12 "ki" 1024.0 "mi" 1048576.0 "gi" 1073741824.0 "ti" 1099511627776.0 -}}
{{- if not (hasKey $bytes $unit) -}}
{{- fail (printf "%q is no size that this chart understands" $text) -}}
{{- end -}}
{{- divf (mulf $number (get $bytes $unit)) 1024.0 | floor | int64 -}}
{{- end -}}

{{/* A CPU quantity of Kubernetes ("250m", 1.5) in thousandths. */}}
{{- define "jetlinks-bridge.millicores" -}}
{{- $text := toString . -}}
{{- if not (regexMatch "^[0-9]+([.][0-9]+)?m?$" $text) -}}
{{- fail (printf "%q is no CPU quantity that this chart understands" $text) -}}
{{- end -}}
{{- if hasSuffix "m" $text -}}
{{- trimSuffix "m" $text | float64 | int64 -}}
{{- else -}}
{{- mulf (float64 $text) 1000.0 | int64 -}}
{{- end -}}
{{- end -}}

{{/* The port of "0.0.0.0:1883", or of the first of several addresses; nothing for a listener that is off. */}}
{{- define "jetlinks-bridge.port" -}}
{{- $address := . -}}
{{- if kindIs "slice" . -}}{{- $address = first . -}}{{- end -}}
{{- regexFind "[0-9]+$" (toString (default "" $address)) -}}
{{- end -}}

{{/*
How long a pod may take to end: the pause before SIGTERM, then what the bridge gives itself for the drain, that is
limits.connections / drain.rate + drain.timeout + 5 s, and 5 s for the last lines of the log and a busy node.
*/}}
{{- define "jetlinks-bridge.shutdownSeconds" -}}
{{- $rate := int64 .Values.config.drain.rate -}}
{{- $batches := div (add (int64 .Values.config.limits.connections) (sub $rate 1)) $rate -}}
{{- add (int64 .Values.preStopSeconds) $batches (include "jetlinks-bridge.seconds" .Values.config.drain.timeout | int64) 10 -}}
{{- end -}}

{{/*
What the bridge needs at most, in KiB: 64 MiB + limits.inflight_bytes + 16 KiB for each connection, 64 KiB for each with a
listener for TLS or DTLS, + the registry. 10,000 devices of the registry are in the 64 MiB; while a file is read again more
of them take 950 bytes each, those of a bucket 750, and of a registry behind HTTP 450 are kept for each connection.
*/}}
{{- define "jetlinks-bridge.memoryKibibytes" -}}
{{- $config := .Values.config -}}
{{- $connections := int64 $config.limits.connections -}}
{{- $each := ternary 64 16 (not (empty (or $config.mqtt.tls.listen $config.mqtt.websocket_tls.listen $config.dtls.listen))) -}}
{{- $records := max 0 (sub (int64 .Values.registry.records) 10000) -}}
{{- $registry := mul $records (get (dict "file" 950 "nats" 750 "http" 0) $config.registry.source) -}}
{{- if eq $config.registry.source "http" -}}{{- $registry = mul 450 $connections -}}{{- end -}}
{{- $inflight := include "jetlinks-bridge.kibibytes" $config.limits.inflight_bytes | int64 -}}
{{- add 65536 $inflight (mul $each $connections) (div (add $registry 1023) 1024) -}}
{{- end -}}
