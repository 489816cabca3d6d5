{{/* Names and labels. */}}
{{- define "jetlinks-bridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for every suffix that the chart appends. */}}
{{- define "jetlinks-bridge.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "jetlinks-bridge.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "jetlinks-bridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "jetlinks-bridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: bridge
{{- end -}}

{{- define "jetlinks-bridge.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: jetlinks-bridge
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "jetlinks-bridge.labels" -}}
{{ include "jetlinks-bridge.selectorLabels" . }}
{{ include "jetlinks-bridge.commonLabels" . }}
{{- end -}}

{{/* The labels of an object that may have further ones (`extra`), which win over commonLabels. */}}
{{- define "jetlinks-bridge.objectLabels" -}}
{{- toYaml (merge (deepCopy (default dict .extra)) (include "jetlinks-bridge.labels" .root | fromYaml)) -}}
{{- end -}}

{{/*
The labels of the bridge's pods. Neither the version of the chart nor commonLabels is among them: a label that changes
replaces every pod, and disconnects every device.
*/}}
{{- define "jetlinks-bridge.podLabels" -}}
{{- toYaml (merge (deepCopy .Values.podLabels) (include "jetlinks-bridge.selectorLabels" . | fromYaml)) -}}
{{- end -}}

{{- define "jetlinks-bridge.testLabels" -}}
app.kubernetes.io/name: {{ include "jetlinks-bridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}

{{- define "jetlinks-bridge.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "jetlinks-bridge.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "jetlinks-bridge.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Where the pods of the bridge and of its test are alike: how they find nodes, networks and images. */}}
{{- define "jetlinks-bridge.podPlace" -}}
serviceAccountName: {{ include "jetlinks-bridge.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What every container of the bridge's image has: the image, its rights, its environment. */}}
{{- define "jetlinks-bridge.container" -}}
image: {{ include "jetlinks-bridge.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
