// What Airflow's own page gives to plugins: one React, one theme, one router. Elements without JSX.
const { React, ChakraUI, ReactRouterDOM } = globalThis;

export const { useCallback, useEffect, useId, useMemo, useRef, useState } = React;
export const { Link, useNavigate, useSearchParams } = ReactRouterDOM;
export const C = ChakraUI;

/** Return an element. A text is always text: nothing here makes HTML of data. */
export const h = (type, props, ...children) => React.createElement(type, props, ...children);

/** A component that renders again only when its props change. */
export const memo = React.memo;

export const { Box, Flex, Text } = ChakraUI;
