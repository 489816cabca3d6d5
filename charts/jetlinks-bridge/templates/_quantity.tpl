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

{{/* The port of "0.0.0.0:1883"; nothing for a listener that is off. */}}
{{- define "jetlinks-bridge.port" -}}
{{- regexFind "[0-9]+$" (toString (default "" .)) -}}
{{- end -}}

{{/* How long a pod may take to end: what the drain and the last moments take at their longest, after the pause before. */}}
{{- define "jetlinks-bridge.graceSeconds" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- $rate := int64 .Values.config.drain.rate -}}
{{- $batches := div (add (int64 .Values.config.limits.connections) (sub $rate 1)) $rate -}}
{{- add (int64 .Values.preStopSeconds) $batches (include "jetlinks-bridge.seconds" .Values.config.drain.timeout | int64) 5 -}}
{{- else -}}
{{- int64 .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/*
What the bridge needs at most, in KiB: 64 MiB + limits.inflight_bytes + 16 KiB for each connection, 64 KiB for one with
TLS, and 64 KiB for each DTLS session. Those of MQTT and those of DTLS may each reach limits.connections.
*/}}
{{- define "jetlinks-bridge.memoryKibibytes" -}}
{{- $mqtt := .Values.config.mqtt -}}
{{- $tcp := ternary 16 0 (gt (len (include "jetlinks-bridge.tcpListeners" . | fromJsonArray)) 0) -}}
{{- $tcp = ternary 64 $tcp (not (empty (or $mqtt.tls.listen $mqtt.websocket_tls.listen))) -}}
{{- $each := add $tcp (ternary 64 0 (not (empty .Values.config.dtls.listen))) -}}
{{- add 65536 (include "jetlinks-bridge.kibibytes" .Values.config.limits.inflight_bytes | int64) (mul $each (int64 .Values.config.limits.connections)) -}}
{{- end -}}
