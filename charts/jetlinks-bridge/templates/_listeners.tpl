{{/* The listeners that are on: name, key of the values, container port, port of the Service, node port, address families. */}}
{{- define "jetlinks-bridge.tcpListeners" -}}
{{- $config := .Values.config.mqtt -}}
{{- $service := .Values.service.tcp -}}
{{- $all := list
  (dict "name" "mqtt" "key" "mqtt" "listen" $config.listen)
  (dict "name" "mqtts" "key" "mqtts" "listen" $config.tls.listen)
  (dict "name" "mqtt-ws" "key" "ws" "listen" $config.websocket.listen)
  (dict "name" "mqtt-wss" "key" "wss" "listen" $config.websocket_tls.listen) -}}
{{- include "jetlinks-bridge.listenersOn" (dict "all" $all "service" $service "protocol" "TCP") -}}
{{- end -}}

{{- define "jetlinks-bridge.udpListeners" -}}
{{- $all := list
  (dict "name" "coap" "key" "coap" "listen" .Values.config.coap.listen)
  (dict "name" "coaps" "key" "coaps" "listen" .Values.config.dtls.listen) -}}
{{- include "jetlinks-bridge.listenersOn" (dict "all" $all "service" .Values.service.udp "protocol" "UDP") -}}
{{- end -}}

{{- define "jetlinks-bridge.listenersOn" -}}
{{- $service := .service -}}
{{- $protocol := .protocol -}}
{{- $on := list -}}
{{- range .all -}}
{{- if .listen -}}
{{- $on = append $on (dict "name" .name "key" .key "protocol" $protocol "containerPort" (include "jetlinks-bridge.port" .listen | int64) "port" (get $service.ports .key | int64) "nodePort" (get $service.nodePorts .key | int64) "isIpv4Only" (not (contains "[::]" (toJson .listen)))) -}}
{{- end -}}
{{- end -}}
{{- toJson $on -}}
{{- end -}}

{{/* The Services for devices differ in the protocol alone. */}}
{{- define "jetlinks-bridge.deviceService" -}}
{{- $service := .service -}}
{{- $isPublic := has $service.type (list "NodePort" "LoadBalancer") -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "jetlinks-bridge.objectLabels" (dict "root" .root "extra" $service.labels) | nindent 4 }}
  {{- with $service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $service.type }}
  {{- if $isPublic }}
  externalTrafficPolicy: {{ $service.externalTrafficPolicy }}
  {{- end }}
  {{- with $service.internalTrafficPolicy }}
  internalTrafficPolicy: {{ . }}
  {{- end }}
  {{- with $service.trafficDistribution }}
  trafficDistribution: {{ . }}
  {{- end }}
  {{- if eq $service.type "LoadBalancer" }}
  {{- with $service.loadBalancerClass }}
  loadBalancerClass: {{ . }}
  {{- end }}
  {{- with $service.loadBalancerIP }}
  loadBalancerIP: {{ . | quote }}
  {{- end }}
  {{- with $service.loadBalancerSourceRanges }}
  loadBalancerSourceRanges:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with $service.ipFamilyPolicy }}
  ipFamilyPolicy: {{ . }}
  {{- end }}
  {{- with $service.ipFamilies }}
  ipFamilies:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  sessionAffinity: {{ $service.sessionAffinity }}
  {{- if and (eq $service.sessionAffinity "ClientIP") $service.sessionAffinityTimeoutSeconds }}
  sessionAffinityConfig:
    clientIP:
      timeoutSeconds: {{ $service.sessionAffinityTimeoutSeconds | int64 }}
  {{- end }}
  selector:
    {{- include "jetlinks-bridge.selectorLabels" .root | nindent 4 }}
  ports:
    {{- range .listeners }}
    - name: {{ .name }}
      protocol: {{ .protocol }}
      port: {{ int64 .port }}
      targetPort: {{ .name }}
      {{- if and $isPublic .nodePort }}
      nodePort: {{ int64 .nodePort }}
      {{- end }}
    {{- end }}
{{- end -}}
