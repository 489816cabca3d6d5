{{/* What the schema cannot say: settings that contradict each other. All of them are told at once. */}}
{{- define "jetlinks-bridge.refusals" -}}
{{- $wrong := list -}}
{{- range list "servers" "listeners" "labels" "resources" "scaling" "network" -}}
{{- $wrong = concat $wrong (include (printf "jetlinks-bridge.refusals.%s" .) $ | fromJsonArray) -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n  %s" (join "\n  " $wrong)) -}}
{{- end -}}
{{- end -}}

{{- define "jetlinks-bridge.refusals.servers" -}}
{{- $config := .Values.config -}}
{{- $wrong := list -}}
{{- if and (eq $config.uplink.queue "nats") (not (dig "nats" "stream" "max_bytes" "" $config)) -}}
{{- $wrong = append $wrong "config.nats.stream.max_bytes is required when config.uplink.queue is nats: without it the stream grows until the disk is full" -}}
{{- end -}}
{{- $isAlone := and (eq (int64 (default 2 .Values.replicas)) 1) (not .Values.autoscaling.enabled) -}}
{{- $knowsNats := or (include "jetlinks-bridge.given" (dict "root" . "setting" (list "nats" "servers")) | fromJson).isNamed (not (empty .Values.envFrom)) -}}
{{- if and (eq $config.commands.queue "kafka") (not $isAlone) (not $knowsNats) -}}
{{- $wrong = append $wrong "config.nats.servers is required when config.commands.queue is kafka and there is more than one replica: without it every replica reads every command, and one for a device that nobody holds gets no outcome; or set replicas to 1" -}}
{{- end -}}
{{- $users := list -}}
{{- if eq $config.uplink.queue "nats" -}}{{- $users = append $users "config.uplink.queue" -}}{{- end -}}
{{- if eq $config.commands.queue "nats" -}}{{- $users = append $users "config.commands.queue" -}}{{- end -}}
{{- if eq $config.registry.source "nats" -}}{{- $users = append $users "config.registry.source" -}}{{- end -}}
{{- range include "jetlinks-bridge.servers" . | fromJsonArray -}}
{{- if not (or .text .isHidden) -}}
{{- if eq .kind "nats" -}}
{{- $wrong = append $wrong (printf "config.nats.servers is required when %s is nats" (first $users)) -}}
{{- else if eq .kind "kafka" -}}
{{- $wrong = append $wrong "config.kafka.brokers is required when a queue is kafka" -}}
{{- else -}}
{{- $wrong = append $wrong "config.registry.http.url is required when config.registry.source is http" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}

{{- define "jetlinks-bridge.refusals.listeners" -}}
{{- $values := .Values -}}
{{- $config := $values.config -}}
{{- $wrong := list -}}
{{- $tcp := include "jetlinks-bridge.tcpListeners" . | fromJsonArray -}}
{{- $udp := include "jetlinks-bridge.udpListeners" . | fromJsonArray -}}
{{- if and (or $config.mqtt.tls.listen $config.mqtt.websocket_tls.listen) (not (include "jetlinks-bridge.tlsSecret" (dict "root" . "of" "mqtt"))) -}}
{{- $wrong = append $wrong "tls.mqtt.existingSecret is required when config.mqtt.tls.listen or config.mqtt.websocket_tls.listen is set, or certificate.enabled" -}}
{{- end -}}
{{- if $config.dtls.listen -}}
{{- if not (include "jetlinks-bridge.tlsSecret" (dict "root" . "of" "dtls")) -}}
{{- $wrong = append $wrong "tls.dtls.existingSecret is required when config.dtls.listen is set, or certificate.enabled" -}}
{{- end -}}
{{- with $values.secrets.dtlsTokenSecret -}}
{{- if not (or .existingSecret .generate) -}}
{{- $wrong = append $wrong "secrets.dtlsTokenSecret needs existingSecret or generate when config.dtls.listen is set" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $values.certificate.enabled -}}
{{- if not $values.certificate.issuerRef.name -}}
{{- $wrong = append $wrong "certificate.issuerRef.name is required when certificate.enabled" -}}
{{- end -}}
{{- if not (or $values.certificate.dnsNames $values.certificate.ipAddresses) -}}
{{- $wrong = append $wrong "certificate.dnsNames or certificate.ipAddresses is required when certificate.enabled" -}}
{{- end -}}
{{- if not (or $config.mqtt.tls.listen $config.mqtt.websocket_tls.listen $config.dtls.listen) -}}
{{- $wrong = append $wrong "certificate.enabled needs a listener for TLS or DTLS" -}}
{{- end -}}
{{- end -}}
{{- if and $values.ingress.enabled (not $config.mqtt.websocket.listen) -}}
{{- $wrong = append $wrong "ingress.enabled needs config.mqtt.websocket.listen: an Ingress carries WebSocket alone" -}}
{{- end -}}
{{- range $name, $listen := dict "config.mqtt.listen" $config.mqtt.listen "config.mqtt.tls.listen" $config.mqtt.tls.listen "config.mqtt.websocket.listen" $config.mqtt.websocket.listen "config.mqtt.websocket_tls.listen" $config.mqtt.websocket_tls.listen "config.coap.listen" $config.coap.listen "config.dtls.listen" $config.dtls.listen "config.admin.listen" $config.admin.listen -}}
{{- if kindIs "slice" $listen -}}
{{- $ports := list -}}
{{- range $listen -}}{{- $ports = append $ports (include "jetlinks-bridge.port" .) -}}{{- end -}}
{{- if gt (len (uniq $ports)) 1 -}}
{{- $wrong = append $wrong (printf "%s has two ports: one listener is one port of the pod" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ports := list (include "jetlinks-bridge.port" $config.admin.listen) -}}
{{- range $tcp -}}{{- $ports = append $ports (toString (int64 .containerPort)) -}}{{- end -}}
{{- if ne (len $ports) (len (uniq $ports)) -}}
{{- $wrong = append $wrong "two listeners share a TCP port" -}}
{{- end -}}
{{- $datagrams := list -}}
{{- range $udp -}}{{- $datagrams = append $datagrams (toString (int64 .containerPort)) -}}{{- end -}}
{{- if ne (len $datagrams) (len (uniq $datagrams)) -}}
{{- $wrong = append $wrong "config.coap.listen and config.dtls.listen share a port" -}}
{{- end -}}
{{- if not (or $tcp $udp) -}}
{{- $wrong = append $wrong "no listener for devices is on" -}}
{{- end -}}
{{- $first := regexFind "^[0-9]+" $values.service.nodePortRange | int64 -}}
{{- $last := regexFind "[0-9]+$" $values.service.nodePortRange | int64 -}}
{{- range $key, $listeners := dict "tcp" $tcp "udp" $udp -}}
{{- $service := get $values.service $key -}}
{{- $asksForIpv6 := or (has $service.ipFamilyPolicy (list "PreferDualStack" "RequireDualStack")) (has "IPv6" $service.ipFamilies) -}}
{{- range $listeners -}}
{{- if and $asksForIpv6 .isIpv4Only -}}
{{- $wrong = append $wrong (printf "service.%s asks for IPv6, and the listener of port %s is on 0.0.0.0, which is IPv4 alone: give it [::]:%d" $key .name (int64 .containerPort)) -}}
{{- end -}}
{{- $node := int64 .nodePort -}}
{{- if and $node (or (lt $node $first) (gt $node $last)) -}}
{{- $wrong = append $wrong (printf "service.%s.nodePorts.%s is %d, and service.nodePortRange is %s" $key .key $node $values.service.nodePortRange) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $on := dict -}}
{{- range concat $tcp $udp -}}{{- $_ := set $on .key true -}}{{- end -}}
{{- $fits := dict "TCPRoute" (list "mqtt" "mqtts" "ws" "wss") "TLSRoute" (list "mqtts" "wss") "HTTPRoute" (list "ws") "UDPRoute" (list "coap" "coaps") -}}
{{- $seen := dict -}}
{{- range $values.gatewayRoutes -}}
{{- if not (hasKey $on .listener) -}}
{{- $wrong = append $wrong (printf "gatewayRoutes: the listener %s is off" .listener) -}}
{{- end -}}
{{- if not (has .listener (get $fits .kind)) -}}
{{- $wrong = append $wrong (printf "gatewayRoutes: a %s leads to %s, not to %s" .kind (join ", " (get $fits .kind)) .listener) -}}
{{- end -}}
{{- $name := include "jetlinks-bridge.routeName" (dict "root" $ "route" .) -}}
{{- if hasKey $seen (printf "%s %s" .kind $name) -}}
{{- $wrong = append $wrong (printf "gatewayRoutes: two routes are called %s: give one a suffix" $name) -}}
{{- end -}}
{{- $_ := set $seen (printf "%s %s" .kind $name) true -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}

{{- define "jetlinks-bridge.refusals.labels" -}}
{{- $wrong := list -}}
{{- $own := include "jetlinks-bridge.selectorLabels" . | fromYaml -}}
{{- range $key, $_ := .Values.podLabels -}}
{{- if hasKey $own $key -}}
{{- $wrong = append $wrong (printf "podLabels has %s, by which the chart selects the pods" $key) -}}
{{- end -}}
{{- end -}}
{{- range list "helm.sh/chart" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "app.kubernetes.io/part-of" "jetlinks-bridge/port" -}}
{{- $_ := set $own . "" -}}
{{- end -}}
{{- range $place, $labels := dict "commonLabels" .Values.commonLabels "service.tcp.labels" .Values.service.tcp.labels "service.udp.labels" .Values.service.udp.labels -}}
{{- range $key, $_ := $labels -}}
{{- if hasKey $own $key -}}
{{- $wrong = append $wrong (printf "%s has %s, which the chart sets itself" $place $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}

{{- define "jetlinks-bridge.refusals.resources" -}}
{{- $wrong := list -}}
{{- $needed := include "jetlinks-bridge.memoryKibibytes" . | int64 -}}
{{- $requests := default dict .Values.resources.requests -}}
{{- $limits := default dict .Values.resources.limits -}}
{{- range $which, $of := dict "requests" $requests "limits" $limits -}}
{{- with $of.memory -}}
{{- if lt (include "jetlinks-bridge.kibibytes" . | int64) $needed -}}
{{- $wrong = append $wrong (printf "resources.%s.memory is %v, and the configuration needs up to %dMi: raise it, or lower config.limits.connections or config.limits.inflight_bytes" $which . (div (add $needed 1023) 1024)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $requests.memory $limits.memory -}}
{{- if gt (include "jetlinks-bridge.kibibytes" $requests.memory | int64) (include "jetlinks-bridge.kibibytes" $limits.memory | int64) -}}
{{- $wrong = append $wrong "resources.requests.memory is above resources.limits.memory" -}}
{{- end -}}
{{- end -}}
{{- if and $requests.cpu $limits.cpu -}}
{{- if gt (include "jetlinks-bridge.millicores" $requests.cpu | int64) (include "jetlinks-bridge.millicores" $limits.cpu | int64) -}}
{{- $wrong = append $wrong "resources.requests.cpu is above resources.limits.cpu" -}}
{{- end -}}
{{- end -}}
{{- if not (kindIs "invalid" .Values.terminationGracePeriodSeconds) -}}
{{- $seconds := include "jetlinks-bridge.shutdownSeconds" . | int64 -}}
{{- if lt (int64 .Values.terminationGracePeriodSeconds) $seconds -}}
{{- $wrong = append $wrong (printf "terminationGracePeriodSeconds is %d, and a pod may take %d s to end: leave it out, raise config.drain.rate, or lower config.drain.timeout" (int64 .Values.terminationGracePeriodSeconds) $seconds) -}}
{{- end -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}

{{- define "jetlinks-bridge.refusals.scaling" -}}
{{- $wrong := list -}}
{{- with .Values.autoscaling -}}
{{- if .enabled -}}
{{- if gt (int64 .minReplicas) (int64 .maxReplicas) -}}
{{- $wrong = append $wrong "autoscaling.minReplicas is above autoscaling.maxReplicas" -}}
{{- end -}}
{{- if not (or .targetCPUUtilizationPercentage .targetConnections .metrics) -}}
{{- $wrong = append $wrong "autoscaling needs a target: targetConnections, targetCPUUtilizationPercentage or metrics" -}}
{{- end -}}
{{- $most := div (mul 7 (int64 $.Values.config.limits.connections)) 10 -}}
{{- if gt (int64 .targetConnections) $most -}}
{{- $wrong = append $wrong (printf "autoscaling.targetConnections is %d, and may be %d at most, 70 %% of config.limits.connections: a pod that is full refuses devices before another one is there" (int64 .targetConnections) $most) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.strategy.type "RollingUpdate" -}}
{{- with .Values.strategy.rollingUpdate -}}
{{- if and (regexMatch "^0%?$" (toString .maxSurge)) (regexMatch "^0%?$" (toString .maxUnavailable)) -}}
{{- $wrong = append $wrong "strategy.rollingUpdate: maxSurge and maxUnavailable are both 0, so no pod could ever be replaced" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.podDisruptionBudget -}}
{{- if and .enabled (not (kindIs "invalid" .minAvailable)) (not (kindIs "string" .minAvailable)) -}}
{{- $fewest := ternary $.Values.autoscaling.minReplicas $.Values.replicas $.Values.autoscaling.enabled -}}
{{- if and (not (kindIs "invalid" $fewest)) (ge (int64 .minAvailable) (int64 $fewest)) -}}
{{- $wrong = append $wrong (printf "podDisruptionBudget.minAvailable is %d of %d pods, so no node could ever be drained" (int64 .minAvailable) (int64 $fewest)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled .Values.serviceMonitor.jobLabel .Values.prometheusRule.enabled (not .Values.prometheusRule.selector) -}}
{{- $wrong = append $wrong "serviceMonitor.jobLabel changes the label job, by which the alerts find the series: set prometheusRule.selector" -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}

{{- define "jetlinks-bridge.refusals.network" -}}
{{- $wrong := list -}}
{{- with .Values.networkPolicy -}}
{{- if .enabled -}}
{{- if $.Values.hostNetwork -}}
{{- $wrong = append $wrong "networkPolicy.enabled has no effect on pods with hostNetwork" -}}
{{- end -}}
{{- $further := dict "queues" (list "extraPorts" .extraPorts) "registry" (list "registryPorts" .registryPorts) "tracing" (list "extraEgress" .extraEgress) -}}
{{- range include "jetlinks-bridge.servers" $ | fromJsonArray -}}
{{- if and .isHidden (hasKey $further .of) -}}
{{- if not (last (get $further .of)) -}}
{{- $wrong = append $wrong (printf "networkPolicy: the address in %s comes from outside the chart, so its port is unknown: name it in networkPolicy.%s" .variable (first (get $further .of))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end -}}
