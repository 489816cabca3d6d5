{{/* What the schema cannot say: settings that contradict each other. All of them are told at once. */}}
{{- define "jetlinks-bridge.refusals" -}}
{{- $config := .Values.config -}}
{{- $wrong := list -}}
{{- $nats := default dict $config.nats -}}
{{- $kafka := default dict $config.kafka -}}
{{- $users := list -}}
{{- if eq $config.uplink.queue "nats" -}}
{{- $users = append $users "config.uplink.queue" -}}
{{- if not (dig "stream" "max_bytes" "" $nats) -}}
{{- $wrong = append $wrong "config.nats.stream.max_bytes is required when config.uplink.queue is nats: without it the stream grows until the disk is full" -}}
{{- end -}}
{{- end -}}
{{- if eq $config.commands.queue "nats" -}}{{- $users = append $users "config.commands.queue" -}}{{- end -}}
{{- if eq $config.registry.source "nats" -}}{{- $users = append $users "config.registry.source" -}}{{- end -}}
{{- if and $users (not $nats.servers) -}}
{{- $names := dict -}}
{{- range .Values.extraEnv -}}{{- $_ := set $names .name true -}}{{- end -}}
{{- if not (hasKey $names "JETLINKS_BRIDGE__NATS__SERVERS") -}}
{{- $wrong = append $wrong (printf "config.nats.servers is required when %s is nats" (first $users)) -}}
{{- end -}}
{{- end -}}
{{- if and (or (eq $config.uplink.queue "kafka") (eq $config.commands.queue "kafka")) (not $kafka.brokers) -}}
{{- $wrong = append $wrong "config.kafka.brokers is required when a queue is kafka" -}}
{{- end -}}
{{- if and (eq $config.registry.source "http") (not (dig "http" "url" "" $config.registry)) -}}
{{- $wrong = append $wrong "config.registry.http.url is required when config.registry.source is http" -}}
{{- end -}}
{{- if and (or $config.mqtt.tls.listen $config.mqtt.websocket_tls.listen) (not .Values.tls.mqtt.existingSecret) -}}
{{- $wrong = append $wrong "tls.mqtt.existingSecret is required when config.mqtt.tls.listen or config.mqtt.websocket_tls.listen is set" -}}
{{- end -}}
{{- if $config.dtls.listen -}}
{{- if not .Values.tls.dtls.existingSecret -}}
{{- $wrong = append $wrong "tls.dtls.existingSecret is required when config.dtls.listen is set" -}}
{{- end -}}
{{- with .Values.secrets.dtlsTokenSecret -}}
{{- if not (or .existingSecret .generate) -}}
{{- $wrong = append $wrong "secrets.dtlsTokenSecret needs existingSecret or generate when config.dtls.listen is set" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not $config.mqtt.websocket.listen) -}}
{{- $wrong = append $wrong "ingress.enabled needs config.mqtt.websocket.listen: an Ingress carries WebSocket alone" -}}
{{- end -}}
{{- $ports := list (include "jetlinks-bridge.port" $config.admin.listen) -}}
{{- range include "jetlinks-bridge.tcpListeners" . | fromJsonArray -}}{{- $ports = append $ports (toString (int64 .containerPort)) -}}{{- end -}}
{{- if ne (len $ports) (len (uniq $ports)) -}}
{{- $wrong = append $wrong "two listeners share a TCP port" -}}
{{- end -}}
{{- $datagrams := list -}}
{{- range include "jetlinks-bridge.udpListeners" . | fromJsonArray -}}{{- $datagrams = append $datagrams (toString (int64 .containerPort)) -}}{{- end -}}
{{- if ne (len $datagrams) (len (uniq $datagrams)) -}}
{{- $wrong = append $wrong "config.coap.listen and config.dtls.listen share a port" -}}
{{- end -}}
{{- if not (or (include "jetlinks-bridge.tcpListeners" . | fromJsonArray) $datagrams) -}}
{{- $wrong = append $wrong "no listener for devices is on" -}}
{{- end -}}
{{- with dig "limits" "memory" "" .Values.resources -}}
{{- $given := include "jetlinks-bridge.kibibytes" . | int64 -}}
{{- $needed := include "jetlinks-bridge.memoryKibibytes" $ | int64 -}}
{{- if lt $given $needed -}}
{{- $wrong = append $wrong (printf "resources.limits.memory is %v, and the configuration needs up to %dMi: raise it, or lower config.limits.connections or config.limits.inflight_bytes" . (div (add $needed 1023) 1024)) -}}
{{- end -}}
{{- end -}}
{{- with .Values.autoscaling -}}
{{- if .enabled -}}
{{- if gt (int64 .minReplicas) (int64 .maxReplicas) -}}
{{- $wrong = append $wrong "autoscaling.minReplicas is above autoscaling.maxReplicas" -}}
{{- end -}}
{{- if not (or .targetCPUUtilizationPercentage .targetConnections) -}}
{{- $wrong = append $wrong "autoscaling needs a target" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n  %s" (join "\n  " $wrong)) -}}
{{- end -}}
{{- end -}}
